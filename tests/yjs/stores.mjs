// Writes stores as other servers do: node stores.mjs (y-leveldb|hocuspocus-sqlite) PATH, in a folder with their packages.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.cwd() + '/')
const load = name => import(pathToFileURL(require.resolve(name)).href)
const Y = await load('yjs')

// Edits of two clients. Each is an update of its own in a store that keeps a log.
const EDITS = [
  doc => doc.getText('body').insert(0, 'Milk and bread'),
  doc => doc.getText('body').format(0, 4, { bold: true }),
  doc => doc.getText('body').insert(14, ' \u{1f600}'),
  doc => doc.getText('body').delete(5, 4),
  doc => doc.getMap('data').set('nested', new Y.Map([['deep', new Y.Array()]])),
  doc => doc.getMap('data').get('nested').get('deep').push([1, 'two', null, true, 2.5]),
  doc => doc.getMap('data').set('gone', 1),
  doc => doc.getMap('data').delete('gone'),
  doc => doc.getXmlFragment('page').insert(0, [new Y.XmlElement('p')]),
  doc => doc.getXmlFragment('page').get(0).insert(0, [new Y.XmlText('hello')])
]

function updatesOf (count) {
  const updates = []
  const docs = [new Y.Doc(), new Y.Doc()]
  docs.forEach((doc, which) => doc.on('update', (update, origin) => {
    if (origin !== 'other') {
      updates.push(update)
      Y.applyUpdate(docs[1 - which], update, 'other')
    }
  }))
  for (let edit = 0; edit < count; edit++) EDITS[edit % EDITS.length](docs[edit % 2])
  return updates
}

const WRITTEN = {
  notes: updatesOf(EDITS.length),
  'alice%2Fshared': updatesOf(1),
  'not/a/name': updatesOf(1),
  empty: []
}

const MAKERS = {
  'y-leveldb': async path => {
    const { LeveldbPersistence } = await load('y-leveldb')
    const store = new LeveldbPersistence(path)
    for (const [name, updates] of Object.entries(WRITTEN)) {
      for (const update of updates) await store.storeUpdate(name, update)
    }
    await store.setMeta('notes', 'title', 'Notes')
    const many = updatesOf(1)
    for (const update of many) await store.storeUpdate('flushed', update)
    await store.flushDocument('flushed')
    const [, ...rest] = updatesOf(3)
    for (const update of rest) await store.storeUpdate('torn', update)
    await store.destroy()
  },
  'hocuspocus-sqlite': async path => {
    const { Hocuspocus } = await load('@hocuspocus/server')
    const { SQLite } = await load('@hocuspocus/extension-sqlite')
    const server = new Hocuspocus({ quiet: true, extensions: [new SQLite({ database: path })] })
    await server.hooks('onConfigure', { instance: server, configuration: server.configuration, version: '', requestHeaders: {} })
    for (const [name, updates] of Object.entries(WRITTEN)) {
      const connection = await server.openDirectConnection(name)
      await connection.transact(doc => updates.forEach(update => Y.applyUpdate(doc, update)))
      await connection.disconnect()
    }
  }
}

const [kind, path] = process.argv.slice(2)
await MAKERS[kind](path)
process.exit(0)
