"""Apps that use y-websocket, unchanged but for the URL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crdt.ids import DeviceId, DocumentId
from server.core.compaction import CompactionPolicy
from server.core.options import CoreOptions
from tests.integration.server_peers import converged, new_device, stored, write
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import RunningServer, make_token, running_server
from tests.support import wait_until
from tests.yjs.apps import App, Apps, eventually, node_apps

MAIN = DocumentId("alice", "main")


def yjs_url(server: RunningServer | ServerProcess) -> str:
    host, port = server.address
    return f"ws://{host}:{port}/yjs"


async def app_of(apps: Apps, name: str, server: RunningServer | ServerProcess, user: str = "alice") -> App:
    """A user's app that is in sync."""
    docs = {"alice/main": "rw"} if user != "alice" else None
    room = "main" if user == "alice" else "alice/main"
    app = await apps.y_websocket(name, yjs_url(server), room, token=make_token(user, "web", docs=docs))
    await app.synced()
    return app


async def test_an_edit_reaches_a_native_device_and_back(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        app = await app_of(apps, "a", server)
        await app.type("typed in an app")
        await converged(document, to={"body": "typed in an app"})
        write(document, " and on a phone")
        await app.has("typed in an app and on a phone")


async def test_apps_of_two_users_share_a_document_offline_and_online(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.type("one two three")
        await bob.has("one two three")
        await alice.do("disconnect")
        await alice.run("doc.getText('body').delete(0, 4)")
        await alice.type("four ", at=9)
        await bob.type("zero ")
        await alice.do("connect")
        await bob.has("zero two threefour ")
        await alice.has("zero two threefour ")


async def test_all_types_of_content_come_through(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.run(EVERYTHING)
        shown = {kind: await alice.get(kind, f"of {kind}") for kind in ("delta", "map", "array", "xml")}
        for kind, value in shown.items():
            assert value
            await bob.has(value, kind, f"of {kind}")
        late = await app_of(apps, "c", server)
        for kind, value in shown.items():
            await late.has(value, kind, f"of {kind}")


EVERYTHING = """
  const text = doc.getText('of delta')
  text.insert(0, 'plain, bold and linked')
  text.format(7, 4, { bold: true })
  text.format(16, 6, { link: { href: 'https://example.com', title: null } })
  text.insertEmbed(5, { image: 'a.png', width: 3 })
  const map = doc.getMap('of map')
  map.set('number', 1.5); map.set('nothing', null); map.set('bytes', new Uint8Array([1, 2]).length)
  const inner = new Y.Map(); map.set('inner', inner)
  inner.set('list', Y.Array.from([1, 'two', { three: [3] }, true]))
  inner.set('text', new Y.Text('nested \\u{1F600}'))
  map.set('number', 2); map.delete('nothing')
  const array = doc.getArray('of array')
  array.push([1, 2, 3]); array.delete(1, 1); array.insert(1, ['x', null, [4, { five: 5 }]])
  const deep = new Y.Map(); array.push([deep]); deep.set('key', new Y.Array()); deep.get('key').push(['last'])
  const xml = doc.getXmlFragment('of xml')
  const p = new Y.XmlElement('paragraph'); xml.insert(0, [p])
  p.setAttribute('align', 'left')
  const words = new Y.XmlText('words'); p.insert(0, [words]); words.format(0, 2, { em: {} })
  const list = new Y.XmlElement('list'); xml.insert(1, [list]); list.insert(0, [new Y.XmlElement('item')])
  xml.insert(0, [new Y.XmlElement('rule')]); xml.delete(0, 1)
"""


async def test_emoji_typed_between_the_halves_of_others_edits(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.type("\U0001f600\U0001f680")
        await bob.has("\U0001f600\U0001f680")
        await alice.do("disconnect")
        await alice.type("\U0001f469‍\U0001f4bb", at=2)
        await bob.type("\U0001f1e9\U0001f1ea", at=2)
        await alice.do("connect")
        merged = await eventually(alice.get, lambda text: len(text) == 7 and "\ufffd" not in text)
        await bob.has(merged)
        await converged(document, to={"body": merged})


async def test_bigints_and_minus_zero_come_as_their_values_to_who_loads_them_later(tmp_path: Path) -> None:
    seen = "return Object.values(doc.getMap('m').toJSON()).map(v => (Object.is(v, -0) ? '-' : '') + typeof v + v)"
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.run("['a', 'b', 'c'].forEach((key, at) => doc.getMap('m').set(key, [-0, 5n, 2n ** 62n + 1n][at]))")
        await eventually(lambda: bob.run(seen), lambda found: len(found) == 3)
        assert await bob.run(seen) == ["-number0", "bigint5", "bigint4611686018427387905"]
        late = await app_of(apps, "late", server)
        assert await late.run(seen) == ["number0", "number5", "bigint4611686018427387905"]


@pytest.mark.parametrize("cut", ["insert(2, 'x')", "delete(2, 1)", "format(1, 1, { bold: true })"])
async def test_who_cuts_an_emoji_in_two_is_told_so_and_others_keep_it(tmp_path: Path, cut: str) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.type("a\U0001f600b")
        await bob.has("a\U0001f600b")
        await alice.run(f"doc.getText('body').{cut}")
        status = await alice.until(lambda status: status["closed"])
        assert status["closes"][-1][0] == 4400
        assert status["closes"][-1][1].startswith("bad_update: surrogate_split: ")
        assert "\ufffd" in await alice.get(), "Yjs has spoilt it for itself"
        await bob.type("still ")
        await bob.has("still a\U0001f600b")
        again = await app_of(apps, "again", server)
        await again.has("still a\U0001f600b")


async def test_undo_and_redo_are_edits_like_others(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.run("state.undo = new Y.UndoManager(doc.getText('body'), { captureTimeout: 0 })")
        await alice.type("mine ")
        await bob.has("mine ")
        await bob.type("theirs", at=5)
        await alice.has("mine theirs")
        await alice.run("state.undo.undo()")
        await bob.has("theirs")
        await alice.run("state.undo.redo()")
        await bob.has("mine theirs")
        await alice.run("doc.getText('body').delete(0, 11)")
        await bob.has("")
        await alice.run("state.undo.undo()")
        await bob.has("mine theirs")


async def test_what_an_app_typed_at_once_after_it_connected_is_in_the_document(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await apps.y_websocket("a", yjs_url(server), connect=False, token=make_token("alice", "web"))
        await app.type("written offline")
        await app.run(
            "provider.on('status', ({ status }) => {"
            " if (status === 'connected') { for (const c of 'abc') doc.getText('body').insert(15, c) } })"
        )
        await app.do("connect")
        other = await app_of(apps, "b", server)
        await other.has("written offlinecba")


async def test_a_server_killed_between_edits_has_what_it_took_and_gets_the_rest(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        written = ""
        for number in range(3):
            await alice.type(f"{number} before. ", at=len(written))
            written += f"{number} before. "
            await bob.has(written)
            await server.kill()
            await alice.type(f"{number} dead. ", at=len(written))
            written += f"{number} dead. "
            await server.start()
            await bob.has(written)
        await alice.has(written)
    document = await stored(server.database, "alice/main")
    assert document.head_seq >= 3


async def test_the_awareness_of_apps_and_the_presence_of_devices_see_each_other(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        document.set_presence(b'{"user": {"name": "a phone"}}')
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.run("awareness.setLocalState({ user: { name: 'alice' }, cursor: 3 })")
        seen = await bob.until(lambda status: len(status["states"]) == 3)
        client = str((await alice.status())["client"])
        assert seen["states"][client] == {"user": {"name": "alice"}, "cursor": 3}
        assert {"user": {"name": "a phone"}} in seen["states"].values()
        await wait_until(lambda: any(b'"alice"' in payload for payload in document.peers.values()))
        shown = next(json.loads(payload) for payload in document.peers.values() if b'"alice"' in payload)
        assert shown == {"clientID": int(client), "clock": shown["clock"], "state": seen["states"][client]}
        document.set_presence(None)
        await alice.do("disconnect")
        await bob.until(lambda status: len(status["states"]) == 1)
        await wait_until(lambda: not any(b'"alice"' in payload for payload in document.peers.values()))
        await alice.do("connect")
        await alice.run("awareness.setLocalStateField('cursor', 4)")  # else clients wait for its next sign of life
        await bob.until(lambda status: client in status["states"])


async def test_a_read_only_app_reads_and_its_edits_stay_its_own(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice = await app_of(apps, "a", server)
        await alice.type("shown")
        token = make_token("bob", "web", docs={"alice/main": "r"})
        bob = await apps.y_websocket("b", yjs_url(server), "alice/main", token=token)
        await bob.has("shown")
        await bob.type("scribbled")
        await bob.until(lambda status: any("read-only" in told for told in status["denied"]))
        await alice.type("more is ")
        assert "scribbled" in await eventually(bob.get, lambda text: "more is" in text)
        await alice.has("more is shown")


async def test_tokens_in_the_url_the_header_and_the_subprotocol(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        token = make_token("alice", "web")
        offered = await apps.y_websocket(
            "a", yjs_url(server), params={}, protocols=["syncline.yjs", f"syncline.token.{token}"]
        )
        await offered.synced()
        named = await apps.y_websocket("b", yjs_url(server), "alice%2Fmain", params={"token": token})
        await named.synced()
        await offered.type("the same document")
        await named.has("the same document")


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        (make_token("alice", "web", ttl_s=-10), 4401, "token_expired"),
        ("no token", 4401, "bad_token"),
        ("", 4401, "bad_token"),
        (make_token("mallory", "web"), 4403, "forbidden"),
    ],
)
async def test_who_may_not_come_in_is_told_why_and_does_not_try_again(
    tmp_path: Path, token: str, code: int, reason: str
) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await apps.y_websocket("a", yjs_url(server), "alice/main", params={"token": token})
        closed = (await app.until(lambda status: status["closed"]))["closed"]
        assert closed["code"] == code
        assert closed["reason"].startswith(reason)
        assert not (await app.status())["wants"]


async def test_an_app_whose_token_ends_goes_on_with_a_new_one(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        other = await app_of(apps, "b", server)
        app = await apps.y_websocket("a", yjs_url(server), token=make_token("alice", "web", ttl_s=1))
        await app.synced()
        closed = (await app.until(lambda status: status["closed"]))["closed"]
        assert (closed["code"], closed["reason"].partition(":")[0]) == (4401, "token_expired")
        await app.type("written without a token")
        await app.do("params", params={"token": make_token("alice", "web")})
        await app.do("connect")
        await other.has("written without a token")


async def test_a_revoked_devices_apps_are_shut_out(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await server.storage.revoke_devices([DeviceId("alice", "web")], 0)
        closed = (await app.until(lambda status: status["closed"]))["closed"]
        assert (closed["code"], closed["reason"].partition(":")[0]) == (4403, "device_revoked")


async def test_an_app_that_comes_back_up_to_date_writes_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await app.run("const t = doc.getText('body'); t.insert(0, 'some text'); t.delete(2, 3); t.delete(0, 1)")
        other = await app_of(apps, "b", server)
        await other.has(await app.get())
        head = (await server.storage.load(MAIN)).head_seq
        for _ in range(3):
            await app.do("disconnect")
            await app.do("connect")
            await app.synced()
        await other.type("x")
        await app.has(await other.get())
        assert (await server.storage.load(MAIN)).head_seq == head + 1


async def test_an_app_that_returns_after_days_merges_and_nothing_of_it_stays(tmp_path: Path) -> None:
    options = CoreOptions(compaction=CompactionPolicy(entries_max=4, entries_min=2, rest_s=0.0))
    async with running_server(tmp_path, options=options) as server, node_apps() as apps:
        old, app = await app_of(apps, "old", server), await app_of(apps, "a", server)
        await old.type("old ")
        await app.has("old ")
        await old.do("disconnect")
        await old.type("and offline ", at=4)
        for number in range(12):
            await app.type(f"{number} ", at=4)
            await eventually(lambda: server.storage.load(MAIN), lambda found: found.head_seq > number)  # noqa: B023
        compacted = await eventually(lambda: server.storage.load(MAIN), lambda found: found.snapshot is not None)
        assert compacted.snapshot.ops == {}, "a snapshot remembers no device that will not come back"
        await server.storage.begin_epoch(MAIN, b"another!")
        await old.do("connect")
        merged = await eventually(old.get, lambda text: "offline" in text and "11 " in text)
        await app.has(merged)
        await app.type("after ", at=0)
        await old.has("after " + merged)
        seen = [(info.device, info.agent) for info in await server.storage.devices()]
        assert all(device == DeviceId("alice", "web") for device, _ in seen)


async def test_what_an_app_can_not_place_itself_does_not_keep_its_own_edits_back(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await apps.y_websocket("a", yjs_url(server), connect=False, token=make_token("alice", "web"))
        await app.run(
            """
            const stranger = new Y.Doc(), updates = []
            stranger.on('update', update => updates.push(update))
            for (const word of ['one ', 'two ', 'three ']) stranger.getText('body').insert(0, word)
            Y.applyUpdate(doc, updates[0]); Y.applyUpdate(doc, updates[2])  // the second one got lost
            doc.getText('body').insert(0, 'mine ')
            state.lost = updates[1]
            """
        )
        await app.do("connect")
        other = await app_of(apps, "b", server)
        await other.has("mine one ")
        await app.type("more of ")
        await other.has("more of mine one ")
        await app.run("Y.applyUpdate(doc, state.lost)")
        await other.has(await app.get())
        assert "three two " in await app.get()


async def test_a_document_too_large_for_one_chunk(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await app.run("for (let i = 0; i < 40; i++) doc.getText('body').insert(0, 'a line of text. '.repeat(1000))")
        late = await app_of(apps, "b", server)
        await eventually(late.get, lambda text: len(text) == 40 * 16_000)


async def test_an_update_over_the_limit_is_refused_with_a_reason(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await app.run("doc.getText('body').insert(0, 'x'.repeat(2 << 20))")
        closed = (await app.until(lambda status: status["closed"]))["closed"]
        assert (closed["code"], closed["reason"].partition(":")[0]) == (4413, "too_big")


async def test_a_backend_reads_and_writes_with_yjs_over_http(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice = await app_of(apps, "a", server)
        backend = await apps.y_websocket("backend", yjs_url(server), connect=False, token="")
        host, port = server.address
        told = {"token": make_token("alice", "backend"), "url": f"http://{host}:{port}/v1/docs/main"}
        await alice.type("by a person. ")
        await backend.run(f"""
            const {{ token, url }} = {json.dumps(told)}
            const headers = () => ({{
                Authorization: `Bearer ${{token}}`,
                'Syncline-State-Vector': Buffer.from(Y.encodeStateVector(doc)).toString('base64url')
            }})
            state.pull = () => fetch(url, {{ headers: headers() }}).then(answer => answer.arrayBuffer())
                .then(update => Y.applyUpdate(doc, new Uint8Array(update)))
            state.push = () => fetch(url + '/updates', {{
                method: 'POST', body: Y.encodeStateAsUpdate(doc),
                headers: {{ Authorization: `Bearer ${{token}}`, 'Content-Type': 'application/octet-stream' }}
            }}).then(answer => answer.json())
        """)

        async def pulled() -> Any:
            await backend.run("return state.pull()")
            return await backend.get()

        await eventually(pulled, lambda text: text == "by a person. ")
        await backend.type("By a backend, ")
        pushed = await backend.run("return state.push()")
        assert (pushed["seq"], pushed["changed"]) == (2, True)
        await alice.has("By a backend, by a person. ")
        assert (await backend.run("return state.push()"))["changed"] is False
