// Two Yjs apps on y-websocket, one of which types a recorded history. Runs where its packages are installed.
// Prints what their sockets carried, in bytes of TCP's payload: the upgrade and WebSocket's framing too.
import { readFileSync } from 'node:fs'
import { WebSocket } from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const PART = 200
const [url, history, root] = process.argv.slice(2)

async function connected () {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url, 'history', doc, { WebSocketPolyfill: WebSocket, disableBc: true })
  await new Promise(resolve => provider.once('sync', resolve))
  return { doc, provider }
}

// All that was sent is answered, and all that the server had to say by then is here: a socket keeps the order.
async function settled (...apps) {
  for (const { provider: { ws } } of apps) {
    const answered = new Promise(resolve => ws.once('pong', resolve))
    ws.ping()
    await answered
  }
}

const bytes = ({ provider: { ws } }) => [ws._socket.bytesWritten, ws._socket.bytesRead]

const writer = await connected()
const reader = await connected()
const text = writer.doc.getText(root)
const transactions = JSON.parse(readFileSync(history))
for (const [number, patches] of transactions.entries()) {
  writer.doc.transact(() => {
    for (const [at, deleted, inserted] of patches) {
      if (deleted) text.delete(at, deleted)
      if (inserted) text.insert(at, inserted)
    }
  })
  if (number % PART === 0) await settled(writer)
}
await settled(writer, reader)
const typed = { writer: bytes(writer), reader: bytes(reader) }

// What each app does every 15 s, so that nobody takes it for gone.
for (const { provider: { awareness } } of [writer, reader]) awareness.setLocalState(awareness.getLocalState())
await settled(writer, reader, writer)
const [text_of_writer, text_of_reader] = [writer, reader].map(({ doc }) => doc.getText(root).toString())
console.log(JSON.stringify({
  ...typed,
  writer_renewed: bytes(writer),
  reader_renewed: bytes(reader),
  state_bytes: Y.encodeStateAsUpdate(writer.doc).length,
  text: text_of_writer,
  equal: text_of_writer === text_of_reader
}))
process.exit(0)
