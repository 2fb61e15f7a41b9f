// Long sessions of four devices that do by chance whatever there is to do: [name, play(room)]. A seed gives one session.

import * as Y from 'yjs'

const OPS = 240
const SEEDS = [1, 2, 3, 4]
const WAVERING_SEEDS = [22, 24, 29, 31, 34, 56]
const WORDS = ['a', 'bc', 'é', '😀', '👩‍👧', 'שלום', 'e\u0301', '\n', 'word ', '日本']
const FORMATS = [{ bold: true }, { bold: null }, { em: {} }, { em: null }, { link: { href: 'x' } }, { color: 'red', size: 2 }]
const VALUES = [0, -1, 2.5, 2 ** 40, true, null, 'text', '😀', [1, [2]], { a: { b: 1 } }, new Uint8Array([1, 2])]

/** Mulberry32: numbers from 0 up to but not including `below`. */
const generator = seed => below => {
  seed = (seed + 0x6d2b79f5) | 0
  let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below
}

class Session {
  constructor (seed) {
    this.below = generator(seed)
  }

  pick (choices) {
    return choices[this.below(choices.length)]
  }

  /** A place in a text that is not between the halves of a pair. */
  place (text) {
    const plain = text.toDelta().map(part => typeof part.insert === 'string' ? part.insert : ' ').join('')
    const at = this.below(plain.length + 1)
    return at && at < plain.length && plain.codePointAt(at - 1) > 0xffff ? at + 1 : at
  }

  span (text) {
    const [from, to] = [this.place(text), this.place(text)].sort((one, other) => one - other)
    return [from, Math.min(to - from, 12) === to - from ? to - from : 0]
  }

  newType () {
    switch (this.below(6)) {
      case 0: return new Y.Map([['k', this.pick(VALUES)]])
      case 1: return Y.Array.from([this.pick(VALUES), this.pick(VALUES)])
      case 2: return new Y.Text(this.pick(WORDS))
      case 3: return this.newXml()
      case 4: return new Y.XmlFragment()
      default: return new Y.Doc({ guid: `sub-${this.below(100)}` })
    }
  }

  newXml () {
    return this.below(2) ? new Y.XmlElement(this.pick(['p', 'h1', 'li'])) : new Y.XmlText(this.pick(WORDS))
  }

  content () {
    return this.below(4) ? this.pick(VALUES) : this.newType()
  }

  edit (type) {
    if (type instanceof Y.Text) return this.editText(type)
    if (type instanceof Y.XmlFragment) return this.editXml(type)
    return type instanceof Y.Map ? this.editMap(type) : this.editArray(type)
  }

  editText (text) {
    const [from, length] = this.span(text)
    switch (this.below(9)) {
      case 0: case 1: return text.delete(from, length)
      case 2: return text.format(from, length, this.pick(FORMATS))
      case 3: return text.insertEmbed(from, { image: this.below(9) })
      case 4: return text.insert(from, this.pick(WORDS), this.pick(FORMATS))
      default: return text.insert(from, this.pick(WORDS))
    }
  }

  editMap (map) {
    const key = `k${this.below(5)}`
    return this.below(4) ? map.set(key, this.content()) : map.delete(key)
  }

  editArray (array) {
    const at = this.below(array.length + 1)
    if (this.below(3)) return array.insert(at, [this.content(), this.content()])
    return array.delete(at, Math.min(this.below(4), array.length - at))
  }

  editXml (node) {
    const at = this.below(node.length + 1)
    if (node instanceof Y.XmlElement && !this.below(3)) return node.setAttribute(this.pick(['class', 'id']), this.pick(WORDS))
    if (this.below(3)) return node.insert(at, [this.newXml()])
    return node.delete(at, Math.min(1, node.length - at))
  }

  /** Edit a list, or one within it, or one within that ... */
  editLists (list) {
    if (list instanceof Y.Text) return this.editText(list)
    const inner = list.toArray().filter(value => value instanceof Y.AbstractType)
    if (inner.length && this.below(4)) return this.editLists(this.pick(inner))
    const at = this.below(list.length + 1)
    if (this.below(3)) return list.insert(at, list instanceof Y.Array ? [this.below(100), this.newList()] : [this.newParagraph()])
    return list.delete(at, Math.min(1 + this.below(2), list.length - at))
  }

  newList () {
    return Y.Array.from(Array.from({ length: this.below(4) }, () => this.below(100)))
  }

  newParagraph () {
    const paragraph = new Y.XmlElement('p')
    if (this.below(2)) paragraph.insert(0, [new Y.XmlText(this.pick(WORDS)), new Y.XmlElement('br')])
    return paragraph
  }

  /** A type of the document: a root, or one within it, or one within that ... */
  typeOf (doc) {
    let type = this.pick([doc.getText('t'), doc.getText('t'), doc.getMap('m'), doc.getArray('a'), doc.getXmlFragment('x')])
    while (!(type instanceof Y.Text) && this.below(4)) {
      const values = type instanceof Y.Map ? [...type.values()] : type.toArray()
      const inner = values.filter(value => value instanceof Y.AbstractType)
      if (!inner.length) break
      type = this.pick(inner)
    }
    return type
  }
}

const session = seed => room => {
  const chance = new Session(seed)
  const devices = [1, 2 ** 31 + seed, 2 ** 32 - seed, 2 ** 53 - seed].map(client => {
    const device = room.device(client, { gc: client % 3 !== 0 })
    const { doc } = device
    const roots = [doc.getText('t'), doc.getMap('m'), doc.getArray('a'), doc.getXmlFragment('x')]
    return { device, undo: new Y.UndoManager(roots, { captureTimeout: 1e9 }) }
  })
  for (let op = 0; op < OPS; op++) {
    const { device, undo } = chance.pick(devices)
    const { doc } = device
    switch (chance.below(20)) {
      case 0: undo.undo(); break
      case 1: undo.redo(); break
      case 2: doc.transact(() => { for (let at = 0; at < 5; at++) chance.edit(chance.typeOf(doc)) }); break
      default: undo.stopCapturing(); chance.edit(chance.typeOf(doc))
    }
    if (!chance.below(5)) device[chance.pick(['push', 'push', 'pushMerged', 'pushDiff'])]()
    if (!chance.below(10)) device.sync()
  }
  for (let round = 0; round < 3; round++) devices.forEach(({ device }) => device.sync())
}

/**
 * Two devices that take back and do again much of what they do to lists within lists, and are apart for long.
 *
 * An undo manager that brings a list back makes a new one, and puts what was in it between what is back already: beside
 * neighbours that were never side by side, and at times the wrong way round.
 */
const wavering = seed => room => {
  const chance = new Session(seed)
  const devices = [1, 2 ** 31 + seed].map(client => {
    const device = room.device(client)
    const roots = [device.doc.getArray('a'), device.doc.getXmlFragment('x')]
    return { device, undo: new Y.UndoManager(roots, { captureTimeout: 1e9 }) }
  })
  for (let op = 0; op < OPS; op++) {
    const { device, undo } = chance.pick(devices)
    const { doc } = device
    switch (chance.below(8)) {
      case 0: case 1: undo.undo(); break
      case 2: undo.redo(); break
      default:
        if (chance.below(2)) undo.stopCapturing()
        chance.editLists(chance.pick([doc.getArray('a'), doc.getXmlFragment('x')]))
    }
    if (!chance.below(5)) device[chance.pick(['push', 'pushDiff'])]()
    if (!chance.below(10)) device.sync()
  }
  for (let round = 0; round < 3; round++) devices.forEach(({ device }) => device.sync())
}

export const sessions = [
  ...SEEDS.map(seed => [`a long session, seed ${seed}`, session(seed)]),
  ...WAVERING_SEEDS.map(seed => [`a session of undo and redo, seed ${seed}`, wavering(seed)])
]
