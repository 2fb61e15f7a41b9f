// A Yjs app that does what it is told: one JSON command a line comes in, one JSON answer a line goes out.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { obey } from './commands.mjs'

const require = createRequire(process.cwd() + '/')
const load = name => import(pathToFileURL(require.resolve(name)).href)
const Y = await load('yjs')
const { WebsocketProvider } = await load('y-websocket')
const { HocuspocusProvider, HocuspocusProviderWebsocket } = await load('@hocuspocus/provider')
const { default: WebSocket } = await load('ws')

const apps = new Map()

// The seconds that pass between a socket's end and the next attempt are not what is tested here.
const hasty = { delay: 50, minDelay: 50, maxDelay: 200, jitter: false }

// Where an app's WebSocket can set headers, as React Native's can.
const withHeaders = headers => headers
  ? class extends WebSocket { constructor (url, protocols) { super(url, protocols, { headers }) } }
  : WebSocket

const KINDS = {
  text: (doc, name) => doc.getText(name).toString(),
  delta: (doc, name) => doc.getText(name).toDelta(),
  map: (doc, name) => doc.getMap(name).toJSON(),
  array: (doc, name) => doc.getArray(name).toJSON(),
  xml: (doc, name) => doc.getXmlFragment(name).toString()
}

function open ({ app, url, room, params, protocols, connect = true, token, clientID, headers }) {
  const doc = new Y.Doc()
  if (clientID) doc.clientID = clientID
  const provider = new WebsocketProvider(url, room, doc, {
    connect, params: params ?? { token }, protocols: protocols ?? [], WebSocketPolyfill: withHeaders(headers), disableBc: true, maxBackoffTime: 100
  })
  const state = { doc, provider, awareness: provider.awareness, closes: [], denied: [], undo: null }
  provider.on('connection-close', event => { if (event) state.closes.push([event.code, event.reason]) })
  provider.on('closed', event => { state.closed = event })
  provider.on('connection-error', () => {})
  const warn = console.warn
  console.warn = text => { state.denied.push(String(text)) }
  state.unwarn = () => { console.warn = warn }
  apps.set(app, state)
}

function socket ({ socket, url, headers }) {
  const shared = new HocuspocusProviderWebsocket({ url, WebSocketPolyfill: withHeaders(headers), ...hasty })
  shared.closes = []
  shared.on('close', ({ event }) => shared.closes.push([event.code, event.reason]))
  apps.set(socket, shared)
}

function attach ({ app, socket, room, token, tokens, connect = true, sessionAwareness = false }) {
  const doc = new Y.Doc()
  const state = { doc, closes: [], denied: [], scopes: [], stateless: [], undo: null, tokens: tokens ?? [token], asked: 0 }
  state.provider = new HocuspocusProvider({
    websocketProvider: apps.get(socket),
    name: room,
    document: doc,
    sessionAwareness,
    token: () => state.tokens[Math.min(state.asked++, state.tokens.length - 1)],
    onAuthenticated: ({ scope }) => state.scopes.push(scope),
    onAuthenticationFailed: ({ reason }) => state.denied.push(reason),
    onStateless: ({ payload }) => state.stateless.push(payload),
    onClose: ({ event }) => state.closes.push([event.code, event.reason])
  })
  state.awareness = state.provider.awareness
  apps.set(app, state)
  if (connect) state.provider.attach()
}

const doing = {
  open,
  socket,
  attach,
  connect: ({ app }) => apps.get(app).provider.connect(),
  disconnect: ({ app }) => apps.get(app).provider.disconnect(),
  detach: ({ app }) => apps.get(app).provider.detach(),
  params: ({ app, params }) => { apps.get(app).provider.params = params },
  destroy: ({ app }) => { apps.get(app).provider.destroy(); apps.delete(app) },
  // `code` is run with the app's document and all of Yjs: tests say what they do in the words of Yjs.
  run: ({ app, code }) => {
    const state = apps.get(app)
    return new Function('doc', 'Y', 'state', 'provider', 'awareness', code)(state.doc, Y, state, state.provider, state.awareness) ?? null
  },
  get: ({ app, kind, name }) => KINDS[kind](apps.get(app).doc, name),
  status: ({ app }) => {
    const { provider, doc, closes, closed, denied, scopes, stateless, awareness } = apps.get(app)
    return {
      synced: provider.synced,
      connected: provider.wsconnected ?? null,
      unsynced: provider.unsyncedChanges ?? null,
      authenticated: provider.isAuthenticated ?? null,
      wants: provider.shouldConnect ?? null,
      closes,
      closed: closed ?? null,
      denied,
      scopes,
      asked: apps.get(app).asked ?? null,
      stateless,
      client: doc.clientID,
      states: Object.fromEntries(awareness.getStates())
    }
  },
  closes: ({ socket }) => apps.get(socket).closes
}

await obey(doing)
process.exit(0)
