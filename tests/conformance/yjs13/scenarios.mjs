// Small documents, each made with one part of the public API of Yjs 13: [name, play(room)].
//
// A root's kind is told by the first letter of its name (a, m, t, x), see make_fixtures.mjs.

import * as Y from 'yjs'

const FAMILY = '👩‍👩‍👧‍👦'
const FLAG = '🏳️‍🌈'

/** One device does all this, an update for each step. */
const alone = (...steps) => room => { for (const step of steps) room.edit(1001, step) }

/** The same steps, but by a device that remains. */
const onOneDevice = (...steps) => room => {
  const device = room.device(1002)
  for (const step of steps) {
    step(device.doc, device)
    device.push()
  }
}

/** Devices 1, 2, 3 edit at once from a common start, and then all see everything. */
const atOnce = (start, ...edits) => room => {
  room.edit(77, start)
  const devices = edits.map((_, index) => room.device(index + 1))
  devices.forEach(device => device.pull())
  devices.forEach((device, index) => edits[index](device.doc))
  devices.forEach(device => device.push())
  devices.forEach(device => device.sync())
  devices.forEach(device => device.sync())
}

/** `value` within `depth` arrays. */
const within = (depth, value) => depth ? [within(depth - 1, value)] : value

const text = {
  'text: typed, deleted': onOneDevice(
    ...[...'hello world'].map((char, index) => doc => doc.getText('t').insert(index, char)),
    doc => doc.getText('t').delete(3, 4),
    doc => doc.getText('t').insert(0, 'Oh, '),
    doc => doc.getText('t').delete(0, doc.getText('t').length),
    doc => doc.getText('t').insert(0, 'again')),
  'text: emoji and joiners': onOneDevice(
    doc => doc.getText('t').insert(0, `a😀b${FAMILY}c${FLAG}`),
    doc => doc.getText('t').insert(3, '😎'),
    doc => doc.getText('t').delete(1, 2),
    doc => doc.getText('t').insert(0, '🎉🎉'),
    doc => doc.getText('t').delete(2, 2)),
  'text: a part of a joined emoji goes': onOneDevice(
    doc => doc.getText('t').insert(0, FAMILY),
    doc => doc.getText('t').delete(2, 3),
    doc => doc.getText('t').insert(2, '\u200d🧔')),
  'text: combining marks, right to left, many scripts': onOneDevice(
    doc => doc.getText('t').insert(0, 'e\u0301a\u0308\u0323'),
    doc => doc.getText('t').insert(1, '\u0302'),
    doc => doc.getText('t').delete(2, 1),
    doc => doc.getText('t').insert(2, 'שלום \u202bعربي\u202c'),
    doc => doc.getText('t').delete(4, 3),
    doc => doc.getText('t').insert(0, 'हिन्दी 한국어 日本語 𝕐𝕛𝕤 ')),
  'text: controls, marks of byte order, non-characters': alone(
    doc => doc.getText('t').insert(0, '\ufeffa\u0000b\u0001\u007f\u0085\u2028\u2029\ufffe\uffff\ufffd'),
    doc => doc.getText('t').insert(0, '\ufeff'),
    doc => doc.getMap('m').set('\ufeffk\u0000', '\ufeffv\u0000')),
  'text: lengths around the borders of variable integers': alone(
    ...[127, 128].map(length => doc => doc.getText('t').insert(0, 'x'.repeat(length))),
    ...[127, 128, 16383, 16384, 2 ** 21].map(length => doc => doc.transact(() => {
      doc.getText('t').insert(1, 'x'.repeat(length))
      doc.getText('t').delete(1, length)
    })),
    doc => doc.getText('t').delete(100, 100)),
  'text: half of a pair written': alone(doc => doc.getText('t').insert(0, 'a\ud83db'), doc => doc.getText('t').insert(1, '\ude00')),
  'text: half of a pair deleted': onOneDevice(doc => doc.getText('t').insert(0, 'a😀b'), doc => doc.getText('t').delete(1, 1)),
  'text: written between the halves of a pair': onOneDevice(
    doc => doc.getText('t').insert(0, 'a😀b'), doc => doc.getText('t').insert(2, 'x')),
  'text: format between the halves of a pair': onOneDevice(
    doc => doc.getText('t').insert(0, 'a😀b'), doc => doc.getText('t').format(0, 2, { b: true })),
  'text: a pair that was written in two halves': onOneDevice(
    doc => doc.getText('t').insert(0, '\ud83d'), doc => doc.getText('t').insert(1, '\ude00'), doc => doc.getText('t').insert(2, '!')),
  'text: roots of several names': alone(doc => doc.transact(() => {
    for (const name of ['', 't', 't.x/y z', 't\u00e9😀', `t${'long'.repeat(64)}`]) doc.getText(name).insert(0, `in ${name}`)
  })),
  'text: a root named with half of a pair': alone(doc => doc.getText('t\ud83d').insert(0, 'a')),
  'text: no change makes no update': alone(
    doc => doc.getText('t').insert(0, 'a'), doc => doc.getText('t').insert(0, ''), doc => doc.getText('t').delete(0, 0), () => {})
}

const formats = {
  'formats: overlap, removal, toggles': onOneDevice(
    doc => doc.getText('t').insert(0, 'the quick brown fox'),
    doc => doc.getText('t').format(0, 9, { bold: true }),
    doc => doc.getText('t').format(4, 11, { italic: true, color: 'red' }),
    doc => doc.getText('t').format(6, 3, { bold: null }),
    doc => doc.getText('t').format(6, 3, { bold: true }),
    doc => doc.getText('t').format(0, 19, { italic: null }),
    doc => doc.getText('t').insert(2, 'XX'),
    doc => doc.getText('t').insert(8, 'YY', { bold: null, code: true }),
    doc => doc.getText('t').delete(3, 9)),
  'formats: values of all kinds': alone(
    doc => doc.getText('t').insert(0, 'link', { link: { href: 'https://example.org/?a=1&b="2"', rel: ['a', null, { b: 1.5 }] } }),
    doc => doc.getText('t').insert(4, ' none', { bold: null }),
    doc => doc.getText('t').insert(0, 'n', { size: 12, zoom: -1.25e-7, off: false, deep: [[[]]], empty: '', 'ké😀': 'ü😀' }),
    doc => doc.getText('t').insert(0, 'plain', {})),
  'formats: half of a pair in a value': alone(doc => doc.getText('t').insert(0, 'a', { mark: '\ud83d' })),
  'formats: numbers of all sizes': alone(doc => doc.getText('t').insert(0, 'a', {
    mark: 1e300, tiny: 5e-324, a: 2 ** 31, b: 2 ** 53, c: 2 ** 64, d: -(2 ** 63), e: -0, f: NaN
  })),
  'formats: a whole number below -2^63': alone(doc => doc.getText('t').insert(0, 'a', { mark: -(2 ** 64) })),
  'formats: a number from 2^63 to 2^64': alone(doc => doc.getText('t').insert(0, 'a', { mark: 2 ** 63 })),
  'formats: a value nested 30 deep': alone(doc => doc.getText('t').insert(0, 'a', { deep: within(30, 1) })),
  'formats: a value nested 200 deep': alone(doc => doc.getText('t').insert(0, 'a', { deep: within(200, 1) })),
  'formats: a key with half of a pair': alone(doc => doc.getText('t').insert(0, 'a', { '\ud83d': true })),
  'formats: a delta': onOneDevice(
    doc => doc.getText('t').applyDelta([{ insert: 'Title' }, { insert: '\n', attributes: { header: 1 } }, { insert: 'body\n' }]),
    doc => doc.getText('t').applyDelta([{ retain: 2, attributes: { bold: true } }, { delete: 2 }, { retain: 3 }, { insert: { image: 'x.png' } }]),
    doc => doc.getText('t').applyDelta([{ retain: 5, attributes: { bold: null } }, { insert: 'end', attributes: { u: true } }])),
  'formats: by three at once': atOnce(
    doc => doc.getText('t').insert(0, 'collaborative'),
    doc => doc.getText('t').format(0, 8, { bold: true }),
    doc => { doc.getText('t').format(4, 9, { bold: true, color: 'red' }); doc.getText('t').delete(2, 3) },
    doc => { doc.getText('t').format(2, 4, { bold: null, color: 'blue' }); doc.getText('t').insert(5, '--', { bold: true }) }),
  'formats: superfluous ones tidied after both deleted': atOnce(
    doc => { doc.getText('t').insert(0, 'aXXXXb'); doc.getText('t').format(1, 4, { bold: true }); doc.getText('t').format(2, 2, { em: 1 }) },
    doc => { doc.getText('t').delete(1, 2); doc.getText('t').format(0, 2, { bold: true }) },
    doc => { doc.getText('t').delete(3, 2); doc.getText('t').format(0, 4, { bold: null }) },
    doc => doc.getText('t').delete(1, 4))
}

const embeds = {
  'embeds: values': alone(
    doc => doc.getText('t').insert(0, 'ab'),
    doc => doc.getText('t').insertEmbed(1, { image: 'x.png', size: [1, 2.5, null], alt: 'é😀', nested: { a: { b: {} } } }),
    doc => doc.getText('t').insertEmbed(0, { hr: true }, { bold: true }),
    doc => doc.getText('t').delete(1, 1)),
  'embeds: not objects': alone(doc => {
    doc.getText('t').insert(0, 'a')
    doc.getText('t').insertEmbed(1, [1, 'two', false])
    doc.getText('t').insertEmbed(2, 7)
    doc.getText('t').insertEmbed(3, true)
  }),
  'embeds: a value nested 30 deep': alone(doc => doc.getText('t').insert(0, 'a'), doc => doc.getText('t').insertEmbed(0, within(30, 1))),
  'embeds: a value nested 200 deep': alone(doc => doc.getText('t').insertEmbed(0, within(200, 1))),
  'embeds: a number from 2^63 to 2^64': alone(doc => doc.getText('t').insertEmbed(0, { id: 2 ** 64 - 2 ** 11 })),
  'embeds: escapes': alone(doc => doc.getText('t').insertEmbed(0, { '"\\/\n\u0000\u2028': '\u0000\u001f\ufeff"\\', '': '😀' })),
  'embeds: half of a pair': alone(doc => doc.getText('t').insertEmbed(0, { alt: '\ud83d' })),
  'embeds: a text of nothing else': alone(doc => doc.getText('t').insertEmbed(0, { a: 1 })),
  'embeds: shared types': onOneDevice(
    doc => doc.getText('t').insert(0, 'ab'),
    doc => {
      const table = new Y.Map()
      table.set('rows', Y.Array.from([1, 2]))
      doc.getText('t').insertEmbed(1, table, { frame: 'thin' })
    },
    doc => doc.getText('t').insertEmbed(0, new Y.Text('inner')),
    doc => doc.getText('t').insertEmbed(0, new Y.XmlElement('aside')),
    doc => doc.getText('t').toDelta().find(part => part.insert instanceof Y.Map).insert.get('rows').push([3])),
  'embeds: a text of nothing but shared types': alone(doc => doc.getText('t').insertEmbed(0, new Y.Map([['k', 1]]))),
  'text attributes': onOneDevice(
    doc => doc.getText('t').insert(0, 'ab'),
    doc => doc.getText('t').setAttribute('lang', 'en'),
    doc => doc.getText('t').setAttribute('lang', { deep: [1] }),
    doc => doc.getText('t').setAttribute('gone', 1),
    doc => doc.getText('t').removeAttribute('gone')),
  'text attributes that are shared types': alone(
    doc => doc.getText('t').insert(0, 'ab'), doc => doc.getText('t').setAttribute('note', new Y.Map([['k', 1]]))),
  'text attributes and no text': alone(doc => doc.getText('t').setAttribute('lang', 'en'))
}

const VALUES = {
  null: null,
  undefined,
  true: true,
  false: false,
  zero: 0,
  'minus zero': -0,
  '31 bits': 2 ** 31 - 1,
  '-31 bits': -(2 ** 31 - 1),
  '2^31': 2 ** 31,
  '-2^31': -(2 ** 31),
  safe: Number.MAX_SAFE_INTEGER,
  '-safe': Number.MIN_SAFE_INTEGER,
  '2^53': 2 ** 53,
  '1e21': 1e21,
  greatest: Number.MAX_VALUE,
  smallest: Number.MIN_VALUE,
  float32: 0.5,
  float64: 0.1,
  NaN: NaN,
  infinity: Infinity,
  '-infinity': -Infinity,
  bigint: 12345678901234567890n % (2n ** 63n),
  'least bigint': -(2n ** 63n),
  'small bigint': 5n,
  empty: '',
  string: 'é😀\u0000\ufeff',
  bytes: new Uint8Array([0, 1, 127, 128, 255]),
  'no bytes': new Uint8Array(0),
  array: [1, 'two', [3, [4, null, undefined]], { five: 6 }],
  'empty array': [],
  object: { a: 1, b: { c: [true, { d: 'e' }] }, '': 0, 'é😀': 1, skipped: undefined },
  'empty object': {},
  'bytes within': { deep: [new Uint8Array([1, 2])] },
  'bigint within': [2n ** 62n],
  date: new Date(0)
}

const maps = {
  'map: values of all kinds': alone(
    ...Object.entries(VALUES).map(([key, value]) => doc => doc.getMap('m').set(key, value))),
  'map: set, overwritten, deleted, set again': onOneDevice(
    doc => doc.getMap('m').set('a', 1),
    doc => doc.getMap('m').set('a', { b: 2 }),
    doc => doc.getMap('m').set('a', new Y.Map([['inner', 1]])),
    doc => doc.getMap('m').get('a').set('inner', 'more'),
    doc => doc.getMap('m').set('a', 'flat'),
    doc => doc.getMap('m').delete('a'),
    doc => doc.getMap('m').set('b', 'stays'),
    doc => doc.getMap('m').set('a', new Uint8Array([9]))),
  'map: cleared': onOneDevice(
    doc => doc.transact(() => { for (let at = 0; at < 20; at++) doc.getMap('m').set(`k${at}`, at) }),
    doc => doc.getMap('m').clear(),
    doc => doc.getMap('m').set('k3', 'back')),
  'map: odd keys': alone(...['', '__proto__', 'constructor', 'a.b', ' ', 'é😀', 'x'.repeat(300)].map(key =>
    doc => doc.getMap('m').set(key, `at ${key}`))),
  'map: a key with half of a pair': alone(doc => doc.getMap('m').set('a\ud83d', 1)),
  'map: a value nested 30 deep': alone(doc => doc.getMap('m').set('deep', within(30, 1))),
  'map: a value nested 100 deep': alone(doc => doc.getMap('m').set('deep', within(100, 1))),
  'map: by three at once': atOnce(
    doc => { doc.getMap('m').set('same', 0); doc.getMap('m').set('list', new Y.Array()) },
    doc => { doc.getMap('m').set('same', 1); doc.getMap('m').get('list').push([1]) },
    doc => { doc.getMap('m').set('same', 2); doc.getMap('m').set('same', 22); doc.getMap('m').get('list').push([2]) },
    doc => { doc.getMap('m').delete('same'); doc.getMap('m').set('list', 'replaced') })
}

const arrays = {
  'array: inserted, pushed, deleted': onOneDevice(
    doc => doc.getArray('a').insert(0, [1, 2, 3]),
    doc => doc.getArray('a').push(['x']),
    doc => doc.getArray('a').unshift([null, true]),
    doc => doc.getArray('a').delete(2, 2),
    doc => doc.getArray('a').insert(1, [{ a: [1] }, [], 2.5])),
  'array: values of all kinds at once': alone(doc => doc.getArray('a').insert(0,
    Object.values(VALUES).filter(value => value !== undefined && typeof value !== 'bigint' && !(value instanceof Date)))),
  'array: a buffer, a document, types between values': alone(doc => doc.getArray('a').insert(0, [
    1, new Uint8Array([1]), new Uint8Array([2]).buffer, 'two', new Y.Map(), new Y.Doc({ guid: 'sub' }), new Y.Text('t'), 3, new Y.Array(), null])),
  'array: 1,000 elements in one': alone(
    doc => doc.getArray('a').insert(0, Array.from({ length: 1000 }, (_, at) => at)),
    doc => doc.getArray('a').delete(100, 800)),
  'array: XML between values': alone(doc => doc.getArray('a').insert(0, [1, new Y.XmlElement('p'), 'two', new Y.XmlText('three')])),
  'array: by three at once': atOnce(
    doc => doc.getArray('a').insert(0, [1, 2, 3, 4, 5]),
    doc => { doc.getArray('a').delete(1, 3); doc.getArray('a').insert(1, ['one']) },
    doc => { doc.getArray('a').insert(3, ['two', 'zwei']); doc.getArray('a').delete(0, 1) },
    doc => { doc.getArray('a').delete(2, 1); doc.getArray('a').insert(2, [new Y.Map([['three', 3]])]) })
}

/** A map within an array within a map ... `depth` types deep. */
const nest = (doc, depth) => {
  let at = doc.getMap('m')
  for (let level = 0; level < depth; level++) {
    const type = level % 2 ? new Y.Map() : new Y.Array()
    if (at instanceof Y.Map) at.set('k', type)
    else at.push([level, type])
    at = type
  }
  if (at instanceof Y.Map) at.set('k', 'bottom')
  else at.push(['bottom'])
}

const nested = {
  'nested: many kinds in each other': alone(doc => doc.transact(() => {
    const root = doc.getMap('m')
    const list = new Y.Array()
    root.set('list', list)
    const item = new Y.Map()
    list.push([item, 'after'])
    const body = new Y.Text('body')
    item.set('body', body)
    body.format(1, 2, { b: true })
    const page = new Y.XmlFragment()
    item.set('page', page)
    page.insert(0, [new Y.XmlElement('p'), new Y.XmlText('tail')])
    page.get(0).insert(0, [new Y.XmlText('in p')])
    item.set('element', new Y.XmlElement('div'))
    item.set('xml text', new Y.XmlText('x'))
  })),
  'nested: types 12 deep': alone(doc => doc.transact(() => nest(doc, 12))),
  'nested: types 30 deep': alone(doc => doc.transact(() => nest(doc, 30))),
  'nested: types 200 deep': alone(doc => doc.transact(() => nest(doc, 200))),
  'nested: parents deleted with their children': onOneDevice(
    doc => doc.transact(() => nest(doc, 6)),
    doc => doc.getMap('m').get('k').get(1).get('k').insert(0, ['x', new Y.Text('y')]),
    doc => doc.getMap('m').get('k').get(1).delete('k'),
    doc => doc.getMap('m').get('k').get(1).set('k', new Y.Text('new')),
    doc => doc.getMap('m').delete('k'),
    doc => doc.getMap('m').set('after', 1)),
  'nested: deleted here, edited there': atOnce(
    doc => doc.transact(() => nest(doc, 4)),
    doc => doc.getMap('m').delete('k'),
    doc => doc.getMap('m').get('k').get(1).get('k').push(['late', new Y.Map([['a', 1]])]),
    doc => doc.getMap('m').get('k').insert(1, ['beside'])),
  'nested: cloned': onOneDevice(
    doc => doc.transact(() => nest(doc, 5)),
    doc => doc.getMap('m').set('copy', doc.getMap('m').get('k').clone()))
}

const paragraph = (...content) => {
  const element = new Y.XmlElement('p')
  element.insert(0, content)
  return element
}

const xml = {
  'xml: elements, attributes, texts': onOneDevice(
    doc => doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText('one')), new Y.XmlText('between'), paragraph()]),
    doc => doc.getXmlFragment('x').get(0).setAttribute('class', 'a b "c" <&>'),
    doc => doc.getXmlFragment('x').get(0).setAttribute('class', 'd'),
    doc => doc.getXmlFragment('x').get(0).setAttribute('gone', 'x'),
    doc => doc.getXmlFragment('x').get(0).removeAttribute('gone'),
    doc => doc.getXmlFragment('x').insertAfter(doc.getXmlFragment('x').get(0), [paragraph(paragraph(paragraph(new Y.XmlText('deep'))))]),
    doc => doc.getXmlFragment('x').get(1).get(0).push([new Y.XmlText('beside')]),
    doc => doc.getXmlFragment('x').delete(2, 1),
    doc => doc.getXmlFragment('x').unshift([new Y.XmlElement('h1')])),
  'xml: formatted text': onOneDevice(
    doc => doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText())]),
    doc => doc.getXmlFragment('x').get(0).get(0).insert(0, 'some <b>text</b> & 😀'),
    doc => doc.getXmlFragment('x').get(0).get(0).format(2, 8, { strong: {}, a: { href: '#' } }),
    doc => doc.getXmlFragment('x').get(0).get(0).format(4, 2, { strong: null }),
    doc => doc.getXmlFragment('x').get(0).get(0).applyDelta([{ retain: 3 }, { insert: 'new', attributes: { em: {} } }, { delete: 4 }])),
  'xml: attributes that are no strings': alone(doc => {
    const element = paragraph()
    doc.getXmlFragment('x').insert(0, [element])
    element.setAttribute('level', 2)
    element.setAttribute('open', true)
    element.setAttribute('none', null)
    element.setAttribute('style', { margin: [1, 2] })
  }),
  'xml: attributes that are bytes': alone(doc => {
    doc.getXmlFragment('x').insert(0, [paragraph()])
    doc.getXmlFragment('x').get(0).setAttribute('raw', new Uint8Array([1, 2]))
  }),
  'xml: attributes that are documents': alone(doc => {
    doc.getXmlFragment('x').insert(0, [paragraph()])
    doc.getXmlFragment('x').get(0).setAttribute('sub', new Y.Doc({ guid: 'sub' }))
  }),
  'xml: attributes that are shared types': alone(doc => {
    doc.getXmlFragment('x').insert(0, [paragraph()])
    doc.getXmlFragment('x').get(0).setAttribute('live', new Y.Text('typed'))
  }),
  'xml: attributes of a text': alone(doc => {
    doc.getXmlFragment('x').insert(0, [new Y.XmlText('a')])
    doc.getXmlFragment('x').get(0).setAttribute('lang', 'en')
  }),
  'xml: an embed in a text': alone(doc => {
    doc.getXmlFragment('x').insert(0, [new Y.XmlText('ab')])
    doc.getXmlFragment('x').get(0).insertEmbed(1, { image: 'x.png' })
  }),
  'xml: text within a fragment within a fragment': alone(doc => {
    const inner = new Y.XmlFragment()
    inner.insert(0, [new Y.XmlText('in')])
    doc.getXmlFragment('x').insert(0, [inner])
  }),
  'xml: odd tags': alone(doc => doc.getXmlFragment('x').insert(0, ['', 'é😀', 'a b', 'x'.repeat(200)].map(tag => new Y.XmlElement(tag)))),
  'xml: a hook': alone(doc => {
    const hook = new Y.XmlHook('widget')
    doc.getXmlFragment('x').insert(0, [hook])
    hook.set('k', 1)
  }),
  'xml: an element and a text as roots': alone(
    doc => doc.get('x element', Y.XmlElement).insert(0, [new Y.XmlText('a')]),
    doc => doc.get('x element', Y.XmlElement).setAttribute('class', 'c'),
    doc => doc.get('t xml', Y.XmlText).insert(0, 'text')),
  'xml: by three at once': atOnce(
    doc => doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText('shared'))]),
    doc => { doc.getXmlFragment('x').get(0).get(0).insert(3, 'ONE', { em: {} }); doc.getXmlFragment('x').get(0).setAttribute('a', '1') },
    doc => doc.getXmlFragment('x').delete(0, 1),
    doc => { doc.getXmlFragment('x').get(0).push([paragraph(new Y.XmlText('three'))]); doc.getXmlFragment('x').get(0).setAttribute('a', '3') })
}

const subdocuments = {
  'documents within': alone(
    doc => doc.getMap('m').set('plain', new Y.Doc({ guid: 'one' })),
    doc => doc.getMap('m').set('options', new Y.Doc({ guid: 'two é😀', autoLoad: true, gc: false, meta: { title: 'x', tags: [1] } })),
    doc => doc.getMap('m').set('not loaded', new Y.Doc({ guid: '', shouldLoad: false, meta: 'text' })),
    doc => doc.getArray('a').insert(0, [new Y.Doc({ guid: 'three', collectionid: 'c' }), 1, new Y.Doc({ guid: 'four' })]),
    doc => doc.getArray('a').delete(0, 1),
    doc => doc.getMap('m').set('plain', new Y.Doc({ guid: 'one' })),
    doc => doc.getMap('m').get('plain').load(),
    doc => doc.getMap('m').get('options').destroy()),
  'documents within, meta nested 100 deep': alone(doc => doc.getMap('m').set('d', new Y.Doc({ guid: 'd', meta: within(100, 1) })))
}

/** An undo manager over `types(doc)` whose stack grows a step with each call of `step`. */
const undoing = (types, play) => room => {
  const device = room.device(1003)
  const manager = new Y.UndoManager(types(device.doc), { captureTimeout: 1e9 })
  const step = edit => {
    manager.stopCapturing()
    device.doc.transact(() => edit(device.doc))
    device.push()
  }
  play({ room, device, manager, step, undo: () => { manager.undo(); device.push() }, redo: () => { manager.redo(); device.push() } })
}

const history = {
  'undo and redo: text with formats': undoing(doc => doc.getText('t'), ({ step, undo, redo }) => {
    step(doc => doc.getText('t').insert(0, 'hello 😀 world'))
    step(doc => doc.getText('t').format(0, 8, { bold: true }))
    step(doc => doc.getText('t').delete(3, 8))
    undo(); undo(); redo(); redo(); undo()
    step(doc => doc.getText('t').insert(4, 'new'))
    undo(); undo(); undo(); redo()
  }),
  'undo and redo: maps and nested types': undoing(doc => [doc.getMap('m'), doc.getArray('a')], ({ step, undo, redo }) => {
    step(doc => doc.getMap('m').set('k', new Y.Map([['a', 1], ['t', new Y.Text('text')]])))
    step(doc => doc.getMap('m').get('k').get('t').insert(2, 'XX'))
    step(doc => doc.getMap('m').delete('k'))
    undo()
    step(doc => doc.getMap('m').set('k', 'over'))
    undo(); undo(); redo()
    step(doc => doc.getMap('m').set('d', new Y.Doc({ guid: 'sub', meta: 1 })))
    step(doc => doc.getMap('m').delete('d'))
    undo()
    step(doc => doc.getArray('a').insert(0, [1, new Y.Array(), 3]))
    step(doc => doc.getArray('a').delete(0, 2))
    undo(); undo(); redo(); redo(); undo()
  }),
  'undo and redo: xml': undoing(doc => doc.getXmlFragment('x'), ({ step, undo, redo }) => {
    step(doc => doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText('one')), paragraph()]))
    step(doc => doc.getXmlFragment('x').get(0).setAttribute('a', '1'))
    step(doc => doc.getXmlFragment('x').delete(0, 2))
    undo(); undo(); redo(); undo(); redo(); redo(); undo()
  }),
  'undo: while another edits': undoing(doc => doc.getText('t'), ({ room, device, step, undo, redo }) => {
    step(doc => doc.getText('t').insert(0, 'abcdef'))
    step(doc => doc.getText('t').delete(1, 4))
    room.edit(5, doc => doc.getText('t').insert(1, 'other'))
    device.pull()
    undo()
    room.edit(5, doc => doc.getText('t').delete(0, 4))
    device.pull()
    redo(); undo(); undo()
  }),
  'not collected': room => {
    room.edit(1, doc => {
      doc.getText('t').insert(0, 'kept when deleted')
      doc.getText('t').delete(2, 9)
      doc.getMap('m').set('k', new Y.Map([['a', 1]]))
      doc.getMap('m').set('k', 2)
      doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText('gone'))])
      doc.getXmlFragment('x').delete(0, 1)
    }, { gc: false })
    room.edit(2, doc => doc.getText('t').insert(3, 'and on'), { gc: false })
  },
  'not collected, kept by a filter': room => room.edit(1, doc => {
    doc.getText('t').insert(0, 'abc')
    doc.getText('t').delete(1, 1)
    doc.getArray('a').push([1, new Y.Map([['k', 1]])])
    doc.getArray('a').delete(0, 2)
  }, { gcFilter: item => item.id.clock % 2 === 0 }),
  'a document from a snapshot': room => {
    const device = room.device(1, { gc: false })
    device.doc.getText('t').insert(0, 'before')
    const snapshot = Y.decodeSnapshot(Y.encodeSnapshot(Y.snapshot(device.doc)))
    device.doc.getText('t').delete(0, 3)
    device.doc.getText('t').insert(0, 'after')
    const restored = Y.createDocFromSnapshot(device.doc, snapshot)
    room.log.push(Y.encodeStateAsUpdate(restored))
    room.edit(2, doc => doc.getText('t').insert(6, ' and on'))
  },
  'positions make no update': onOneDevice(doc => doc.getText('t').insert(0, 'abc'), doc => {
    const position = Y.createRelativePositionFromTypeIndex(doc.getText('t'), 2)
    doc.getText('t').insert(0, 'x')
    Y.createAbsolutePositionFromRelativePosition(Y.decodeRelativePosition(Y.encodeRelativePosition(position)), doc)
    Y.encodeSnapshot(Y.snapshot(doc))
  }),
  'permanent user data': room => room.edit(9, doc => {
    const users = new Y.PermanentUserData(doc, doc.getMap('m users'))
    users.setUserMapping(doc, doc.clientID, 'ann')
    doc.getText('t').insert(0, 'hello')
    doc.getText('t').delete(1, 2)
  })
}

const transactions = {
  'one transaction over several roots': alone(doc => doc.transact(() => {
    doc.getText('t').insert(0, 'text')
    doc.getMap('m').set('k', 1)
    doc.getArray('a').push([1, 2])
    doc.getXmlFragment('x').insert(0, [new Y.XmlElement('p')])
    doc.getText('t').delete(1, 2)
    doc.getArray('a').delete(0, 1)
    doc.transact(() => doc.getMap('m').set('inner', 2))
    doc.getText('t2').insert(0, 'more')
  })),
  'written and deleted in one transaction': alone(doc => doc.transact(() => {
    doc.getText('t').insert(0, 'gone')
    doc.getText('t').delete(0, 4)
    doc.getMap('m').set('k', new Y.Array())
    doc.getMap('m').get('k').push([1])
    doc.getMap('m').delete('k')
  }), doc => doc.getText('t').insert(0, 'x')),
  'clients of all sizes': room => {
    for (const client of [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
      room.edit(client, doc => { doc.getText('t').insert(doc.getText('t').length >> 1, `<${client}>`); doc.getMap('m').set('last', client) })
    }
    room.edit(3, doc => doc.getText('t').delete(1, 40))
  },
  '60 clients, a letter each': room => {
    for (let client = 1; client <= 60; client++) room.edit(client * 7919, doc => doc.getText('t').insert((client * 31) % client, 'x'))
    room.edit(1, doc => doc.getText('t').delete(5, 50))
  }
}

/** A device that saw the beginning, and then nothing for weeks. */
const weeksBehind = push => room => {
  room.edit(10, doc => {
    doc.getText('t').insert(0, 'the long text of the beginning 😀')
    doc.getText('t').format(4, 8, { bold: true })
    doc.getMap('m').set('list', Y.Array.from([1, 2, new Y.Map([['k', 'v']])]))
    doc.getXmlFragment('x').insert(0, [paragraph(new Y.XmlText('para')), paragraph()])
  })
  const late = room.device(20)
  late.pull()
  room.edit(30, doc => {
    doc.getText('t').delete(2, 20)
    doc.getMap('m').delete('list')
    doc.getXmlFragment('x').delete(0, 1)
  })
  room.edit(40, doc => {
    doc.getText('t').insert(2, 'meanwhile')
    doc.getText('t').delete(0, 5)
  })
  for (const at of [3, 9, 15, 21]) late.doc.getText('t').insert(at, '[late]', { em: true })
  late.doc.getText('t').delete(5, 12)
  late.doc.getText('t').format(0, 20, { bold: null, code: true })
  late.doc.getMap('m').get('list').push(['late'])
  late.doc.getMap('m').get('list').get(2).set('k', new Y.Text('late'))
  late.doc.getXmlFragment('x').get(0).get(0).insert(2, 'late')
  late.doc.getXmlFragment('x').insert(1, [paragraph(new Y.XmlText('late'))])
  late[push]()
  late.sync()
  room.edit(30, doc => doc.getText('t').insert(0, 'after all '))
}

/** Two devices that stayed away for long, each with its own branch; they come back in either order. */
const forks = (first, second) => room => {
  room.edit(1, doc => { doc.getText('t').insert(0, 'trunk'); doc.getArray('a').push([0]) })
  const branches = { 2: room.device(2), 3: room.device(3) }
  for (const [name, device] of Object.entries(branches)) {
    device.pull()
    for (let at = 0; at < 8; at++) {
      device.doc.getText('t').insert(at, `${name}${at}`)
      device.doc.getText('t').delete((at * 3) % 5, 2)
      device.doc.getArray('a').insert(at % 2, [`${name}.${at}`])
    }
  }
  branches[first].pushMerged()
  room.edit(1, doc => doc.getText('t').delete(1, 3))
  branches[second].pull()
  branches[second].doc.getText('t').insert(2, 'both')
  branches[second].pushDiff()
  branches[first].pull()
  branches[first].doc.getText('t').insert(1, 'end')
  branches[first].push()
}

const offline = {
  'weeks behind, each edit for itself': weeksBehind('push'),
  'weeks behind, merged': weeksBehind('pushMerged'),
  'weeks behind, as a diff': weeksBehind('pushDiff'),
  'forks, 2 first': forks(2, 3),
  'forks, 3 first': forks(3, 2)
}

/** What goes over the wire is something else than the room's log; its values are read from `log`. */
const asSent = (play, send) => room => {
  play(room)
  const base64 = send(room.log).map(update => Buffer.from(update).toString('base64'))
  return { deliveries: { sent: base64 } }
}

const typed = alone(doc => doc.getText('t').insert(0, 'a'), doc => doc.getText('t').insert(1, 'b'), doc => doc.getText('t').insert(2, 'c'))

const shapes = {
  'nothing at all': () => ({ deliveries: { sent: [Buffer.from(Y.encodeStateAsUpdate(new Y.Doc())).toString('base64')] } }),
  'obfuscated': room => {
    nested['nested: many kinds in each other'](room)
    formats['formats: overlap, removal, toggles'](room)
    room.log = [Y.obfuscateUpdate(Y.mergeUpdates(room.log))]
  },
  'the second version of the format': asSent(typed, log => [Y.convertUpdateFormatV1ToV2(Y.mergeUpdates(log))]),
  'the second version, of an empty document': asSent(typed, () => [Y.encodeStateAsUpdateV2(new Y.Doc())]),
  'merged around a gap': asSent(typed, log => [Y.mergeUpdates([log[0], log[2]])]),
  'values as before Yjs 13': room => room.edit(1, doc => doc.transact(transaction => {
    const root = doc.getArray('a')
    const content = new Y.ContentJSON([1, 'two', { three: [3] }, undefined])
    new Y.Item(Y.createID(1, 0), null, null, null, null, root, null, content).integrate(transaction, 0)
  }))
}

export const scenarios = Object.entries({
  ...text, ...formats, ...embeds, ...maps, ...arrays, ...nested, ...xml, ...subdocuments, ...history, ...transactions, ...offline, ...shapes
})
