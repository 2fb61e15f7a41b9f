// Devices that edit one document, and the log that a server would keep of them.

import * as Y from 'yjs'

/** The origin of transactions that bring in what others wrote. */
const REMOTE = 'remote'

/**
 * A server without opinions: a log of updates, each device's in order, none before what it builds on.
 * A device's edits wait in its outbox until it pushes.
 */
export class Room {
  log = []

  device (clientID, options) {
    const doc = new Y.Doc(options)
    doc.clientID = clientID
    return new Device(this, doc)
  }

  /** `edit(doc)` on a device of its own that is in step with the log; each transaction becomes an update. */
  edit (clientID, edit, options) {
    const device = new Device(this, new Y.Doc(options))
    device.pull()
    device.doc.clientID = clientID // only now: a document that receives edits of its own id takes another
    edit(device.doc, device)
    device.push()
    return device
  }

  /** A document with the whole log in, as a device that joins last has it. */
  read () {
    const doc = new Y.Doc()
    this.log.forEach(update => Y.applyUpdate(doc, update))
    return doc
  }

  stateVector () {
    return Y.encodeStateVector(this.read())
  }
}

export class Device {
  outbox = []
  seen = 0

  constructor (room, doc) {
    this.room = room
    this.doc = doc
    // What Yjs tidies up after a remote transaction (superfluous formats) is an edit of this device's own.
    doc.on('update', (update, origin) => { if (origin !== REMOTE) this.outbox.push(update) })
  }

  pull () {
    for (; this.seen < this.room.log.length; this.seen++) Y.applyUpdate(this.doc, this.room.log[this.seen], REMOTE)
  }

  /** Send what waits as it was written. */
  push () {
    this.room.log.push(...this.outbox)
    this.outbox = []
  }

  /** Send what waits as one update. */
  pushMerged () {
    if (this.outbox.length) this.room.log.push(Y.mergeUpdates(this.outbox))
    this.outbox = []
  }

  /** Send what the room lacks as providers do when they connect: a diff, with the whole delete set. */
  pushDiff () {
    this.room.log.push(Y.encodeStateAsUpdate(this.doc, this.room.stateVector()))
    this.outbox = []
  }

  sync () {
    this.push()
    this.pull()
    this.push()
  }
}

/** A value of Yjs as JSON; what JSON has no words for is named with a `$`. */
export function plain (value) {
  if (value === undefined || value === null) return null
  if (value instanceof Y.XmlText) return value.toDelta().filter(part => typeof part.insert === 'string').map(part => part.insert).join('')
  if (value instanceof Y.Text) return value.toString()
  if (value instanceof Y.XmlHook) return { $hook: value.hookName, ...plainObject(value.toJSON()) }
  if (value instanceof Y.XmlElement) {
    return { tag: value.nodeName, attributes: plainObject(value.getAttributes()), children: value.toArray().map(plain) }
  }
  if (value instanceof Y.XmlFragment || value instanceof Y.Array) return value.toArray().map(plain)
  if (value instanceof Y.Map) return Object.fromEntries([...value.keys()].map(key => [key, plain(value.get(key))]))
  if (value instanceof Y.Doc) return { $doc: value.guid }
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') }
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value === 'bigint') return { $int: String(value) }
  if (typeof value === 'number') return plainNumber(value)
  return typeof value === 'object' ? plainObject(value) : value
}

function plainObject (object) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, plain(value)]))
}

function plainNumber (number) {
  if (Number.isFinite(number)) return number
  return { $number: Number.isNaN(number) ? 'nan' : number > 0 ? 'inf' : '-inf' }
}

/** The runs of a text with their formats, as [content, attributes]. */
export function runs (text) {
  return text.toDelta().map(part => [plain(part.insert), plainObject(part.attributes ?? {})])
}
