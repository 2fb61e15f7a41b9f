// Browser windows that do what they are told: one JSON command a line comes in, one JSON answer a line goes out.
import { createRequire } from 'node:module'
import { obey } from './commands.mjs'

const require = createRequire(process.cwd() + '/')
const { chromium } = require('playwright-core')

// The browser talks to nobody but the page's servers. Its profile is a fresh folder each time.
const QUIET = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

const [executablePath] = process.argv.slice(2)
const browser = await chromium.launch({ executablePath, headless: true, chromiumSandbox: false, args: QUIET })
const pages = new Map()

const doing = {
  // Each window is a browser context: its own cookies, storage and broadcast channels, as another person's browser.
  open: async ({ window, url }) => {
    const context = await browser.newContext({ viewport: { width: 900, height: 480 } })
    const page = await context.newPage()
    page.errors = []
    page.on('pageerror', error => page.errors.push(String(error)))
    pages.set(window, page)
    await page.goto(url)
  },
  fill: ({ window, selector, text }) => pages.get(window).fill(selector, text),
  focus: ({ window, selector }) => pages.get(window).focus(selector),
  click: ({ window, selector }) => pages.get(window).click(selector),
  press: ({ window, keys }) => pages.get(window).keyboard.press(keys),
  type: ({ window, text }) => pages.get(window).keyboard.type(text),
  // The text of each element that matches, less what is in it of `without`.
  texts: ({ window, selector, without }) => pages.get(window).locator(selector).evaluateAll((elements, without) => elements.map(element => {
    const copy = element.cloneNode(true)
    if (without) copy.querySelectorAll(without).forEach(part => part.remove())
    return copy.textContent
  }), without),
  errors: ({ window }) => pages.get(window).errors,
  screenshot: async ({ window, path }) => { await pages.get(window).screenshot({ path }) }
}

await obey(doing)
await browser.close()
