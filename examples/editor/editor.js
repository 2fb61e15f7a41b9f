// A text editor that two people share. What it needs to know is in the address, behind the #, which no server gets.
import { defaultKeymap } from '@codemirror/commands'
import { EditorState } from '@codemirror/state'
import { drawSelection, EditorView, keymap, lineNumbers } from '@codemirror/view'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const COLORS = ['#0369a1', '#15803d', '#b45309', '#be185d', '#6d28d9', '#0f766e']
const FINAL_REASONS = { 4401: 'a fresh token is needed', 4403: 'not allowed' }

const element = id => document.getElementById(id)

function start ({ server, document: name, token, name: user }) {
  const doc = new Y.Doc()
  const body = doc.getText('body')
  const provider = new WebsocketProvider(server, name, doc, { params: { token } })
  const color = COLORS[doc.clientID % COLORS.length]
  provider.awareness.setLocalStateField('user', { name: user, color, colorLight: color + '33' })
  element('join').hidden = true
  element('desk').hidden = false
  element('title').textContent = name
  showStatus(provider)
  showPeople(provider.awareness)
  showEditor(body, provider.awareness)
}

function showStatus (provider) {
  const status = element('status')
  const offline = element('offline')
  const show = (state, text = state) => {
    status.dataset.state = state
    status.textContent = text
  }
  show('connecting')
  provider.on('status', ({ status }) => show(status, status === 'disconnected' ? 'offline' : status))
  provider.on('closed', ({ code, reason }) => show('closed', FINAL_REASONS[code] ?? reason))
  offline.addEventListener('click', () => {
    const goes = provider.shouldConnect
    offline.textContent = goes ? 'Go online' : 'Go offline'
    goes ? provider.disconnect() : provider.connect()
  })
}

function showPeople (awareness) {
  const show = () => element('people').replaceChildren(...[...awareness.getStates().values()].flatMap(({ user }) => {
    if (!user?.name) return [] // a device that shows something else
    const item = document.createElement('li')
    item.textContent = user.name
    item.style.background = user.color
    return [item]
  }))
  awareness.on('change', show)
  show()
}

function showEditor (body, awareness) {
  const undoManager = new Y.UndoManager(body)
  const extensions = [
    lineNumbers(),
    drawSelection(),
    EditorView.lineWrapping,
    keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
    yCollab(body, awareness, { undoManager })
  ]
  const state = EditorState.create({ doc: body.toString(), extensions })
  new EditorView({ state, parent: element('editor') }).focus()
}

element('join').addEventListener('submit', event => {
  event.preventDefault()
  location.hash = new URLSearchParams(new FormData(event.target))
  start(Object.fromEntries(new FormData(event.target)))
})

const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)))
for (const input of element('join').elements) if (asked[input.name]) input.value = asked[input.name]
if (asked.token) element('join').requestSubmit()
