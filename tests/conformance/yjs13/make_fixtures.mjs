// Writes fixtures.json: what Yjs 13 sends, and what it reads when all of that has arrived.

import { writeFileSync } from 'node:fs'
import * as Y from 'yjs'
import { Room, plain, runs } from './room.mjs'
import { scenarios } from './scenarios.mjs'
import { sessions } from './sessions.mjs'

const FILE = new URL('fixtures.json', import.meta.url)

/** The kind of a root is told by the first letter of its name; '' is a text. */
const KINDS = { a: 'array', m: 'map', t: 'text', x: 'xml' }
const GETTERS = { array: 'getArray', map: 'getMap', text: 'getText', xml: 'getXmlFragment' }

function fixture ([name, play]) {
  const room = new Room()
  const ready = play(room)
  return { name, roots: ready?.unreadable ? null : roots(room.read()), deliveries: ready?.deliveries ?? deliveries(room.log) }
}

function roots (doc) {
  const found = {}
  for (const name of [...doc.share.keys()].sort()) {
    const kind = KINDS[name[0]] ?? 'text'
    const root = doc[GETTERS[kind]](name)
    found[name] = { kind, value: plain(root) }
    if (kind === 'text') found[name].runs = runs(root)
  }
  return found
}

/** The same edits in the shapes in which Yjs can send them. */
function deliveries (log) {
  const merged = Y.mergeUpdates(log)
  const state = Y.encodeStateAsUpdate(load(log))
  const half = log.slice(0, log.length >> 1)
  const shapes = {
    live: log,
    merged: [merged],
    merged_backwards: [Y.mergeUpdates([...log].reverse())],
    state: [state],
    by_way_of_v2: [Y.convertUpdateFormatV2ToV1(Y.encodeStateAsUpdateV2(load(log)))],
    two_diffs: [Y.encodeStateAsUpdate(load(half)), Y.encodeStateAsUpdate(load(log), Y.encodeStateVector(load(half)))],
    healed: [Y.mergeUpdates(half), state],
    two_merged: [Y.mergeUpdates(half), Y.diffUpdate(merged, Y.encodeStateVector(load(half)))],
    not_collected: [Y.encodeStateAsUpdate(load(log, { gc: false }))]
  }
  return distinct(shapes)
}

function load (log, options) {
  const doc = new Y.Doc(options)
  log.forEach(update => Y.applyUpdate(doc, update))
  return doc
}

/** Without the shapes that came out as an earlier one did. Bytes as base64. */
function distinct (shapes) {
  const seen = new Set()
  const kept = {}
  for (const [shape, updates] of Object.entries(shapes)) {
    const encoded = updates.map(update => Buffer.from(update).toString('base64'))
    const key = encoded.join()
    if (!seen.has(key)) kept[shape] = encoded
    seen.add(key)
  }
  return kept
}

const fixtures = [...scenarios, ...sessions].map(fixture)
writeFileSync(FILE, `[\n${fixtures.map(made => JSON.stringify(made)).join(',\n')}\n]\n`)
console.log(`${fixtures.length} fixtures`)
