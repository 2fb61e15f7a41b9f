"""What the providers' own test suites ask of a server, in our words: they start their servers themselves.

docs/YJS.md lists all that they ask, and where it is tested.
"""

from __future__ import annotations

import json
from pathlib import Path

from crdt.ids import DocumentId
from tests.server_fixture import RunningServer, make_token, running_server
from tests.yjs.apps import App, Apps, eventually, node_apps


async def attached(
    apps: Apps, name: str, server: RunningServer, *, access: str = "rw", room: str = "alice/main", connect: bool = True
) -> App:
    """Bob's app for a document of alice's, on a socket of its own."""
    host, port = server.address
    await apps.socket(f"socket of {name}", f"ws://{host}:{port}/hocuspocus")
    token = make_token("bob", "web", docs={room: access})
    return await apps.hocuspocus(name, f"socket of {name}", room, token=token, connect=connect)


async def settled(app: App) -> None:
    await app.synced()
    await app.saved()


async def test_what_is_unsynced_is_told_at_any_time(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await attached(apps, "a", server)
        assert (await app.status())["synced"] is False
        await settled(app)
        assert await app.run("doc.getMap('m').set('k', 1); return provider.hasUnsyncedChanges") is True
        await app.saved()


async def test_a_reader_without_edits_has_nothing_unsynced_and_one_with_edits_has(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        writer = await attached(apps, "writer", server)
        await settled(writer)
        await writer.run("const m = doc.getMap('m'); m.set('gone', 1); m.delete('gone'); m.set('k', 1)")
        await writer.saved()
        state = await writer.run("return Array.from(Y.encodeStateAsUpdate(doc))")

        idle = await attached(apps, "idle", server, access="r")
        await settled(idle)
        before = await attached(apps, "wrote before", server, access="r", connect=False)
        await before.run("doc.getMap('m').set('mine', 1); provider.attach()")
        deleted = await attached(apps, "deleted before", server, access="r", connect=False)
        await deleted.run(
            f"Y.applyUpdate(doc, new Uint8Array({json.dumps(state)})); doc.getMap('m').delete('k'); provider.attach()"
        )
        for app in (before, deleted):
            await app.until(lambda status: status["synced"] and status["scopes"] == ["readonly"])
        await writer.run("doc.getMap('m').set('later', 1)")
        await before.has({"k": 1, "later": 1, "mine": 1}, "map", "m")
        await deleted.has({"later": 1}, "map", "m")
        await before.until(lambda status: status["unsynced"] > 0)
        await deleted.until(lambda status: status["unsynced"] > 0)
        await idle.run("provider.forceSync()")
        await settled(idle)
        again = await attached(apps, "again", server, access="r")
        await settled(again)
        await writer.has({"k": 1, "later": 1}, "map", "m")


async def test_content_is_there_when_synced_is_told(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        writer = await attached(apps, "writer", server)
        await writer.type("already here")
        await settled(writer)
        reader = await attached(apps, "reader", server, connect=False)
        await reader.run(
            "provider.on('synced', () => { state.had = doc.getText('body').toString() }); provider.attach()"
        )
        assert await eventually(lambda: reader.run("return state.had ?? null"), bool) == "already here"


async def test_awareness_is_shared_stays_in_its_document_and_is_not_sent_back(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        first, second = await attached(apps, "first", server), await attached(apps, "second", server)
        elsewhere = await attached(apps, "elsewhere", server, room="alice/other")
        for app in (first, second, elsewhere):
            await settled(app)
        await second.run("""
            state.sent = 0
            const count = ({ message }) => { if (/awareness/i.test(message.description)) state.sent++ }
            provider.on('outgoingMessage', count)
        """)
        await first.run("provider.setAwarenessField('foo', 'bar')")
        await second.until(lambda status: {"foo": "bar"} in status["states"].values())
        assert await second.run("return state.sent") == 0
        await second.run("provider.setAwarenessField('foo', 'second')")
        await first.until(lambda status: {"foo": "second"} in status["states"].values())
        assert await second.run("return state.sent") == 1
        await second.do("destroy")
        await first.until(lambda status: list(status["states"].values()) == [{"foo": "bar"}])
        assert list((await elsewhere.status())["states"].values()) == [{}]


async def test_who_was_denied_gets_in_with_a_better_token(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        host, port = server.address
        await apps.socket("s", f"ws://{host}:{port}/hocuspocus")
        good = make_token("alice", "web")
        tries = await apps.hocuspocus("tries again", "s", "one", tokens=["no token", good], connect=False)
        await tries.run("""
            provider.on('authenticationFailed', () => { provider.sendToken().then(() => provider.startSync()) })
            provider.attach()
        """)
        await tries.synced()
        assert (await tries.status())["asked"] == 2
        fails = await apps.hocuspocus("fails", "s", "two", token="no token")
        await fails.until(lambda status: status["denied"])
        await fails.do("detach")
        follows = await apps.hocuspocus("follows", "s", "two", token=good)
        await follows.synced()
        assert [(await app.status())["authenticated"] for app in (tries, fails, follows)] == [True, False, True]


async def test_edits_that_a_provider_gathers_are_one_update(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await attached(apps, "a", server)
        await settled(app)
        await app.run("provider.configuration.flushDelay = 50")
        await app.run("for (let i = 0; i < 20; i++) doc.getText('body').insert(i, String(i % 10))")
        await app.saved()
        stored = await server.storage.load(DocumentId("alice", "main"))
        assert [len(entry.updates) for entry in stored.entries] == [1]
        other = await attached(apps, "b", server)
        await other.has("01234567890123456789")


async def test_a_provider_that_asks_for_everything_again_changes_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await attached(apps, "a", server)
        await app.type("once")
        await settled(app)
        for _ in range(3):
            await app.run("provider.forceSync()")
            await app.saved()
        assert (await server.storage.load(DocumentId("alice", "main"))).head_seq == 1


async def test_y_websocket_asks_again_without_end_and_changes_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        host, port = server.address
        app = await apps.y_websocket("a", f"ws://{host}:{port}/yjs", token=make_token("alice", "web"))
        await app.type("once")
        await app.synced()
        other = await apps.y_websocket("b", f"ws://{host}:{port}/yjs", token=make_token("alice", "web"))
        await other.has("once")
        await app.run("""
            state.answers = 0
            const count = ({ data }) => { if (new Uint8Array(data)[1] === 1) state.answers++ }
            provider.ws.addEventListener('message', count)
            const step1 = new Uint8Array([0, 0, ...[Y.encodeStateVector(doc)].flatMap(sv => [sv.length, ...sv])])
            for (let i = 0; i < 3; i++) provider.ws.send(step1)
        """)
        await eventually(lambda: app.run("return state.answers"), lambda answers: answers == 3)
        assert (await server.storage.load(DocumentId("alice", "main"))).head_seq == 1


async def test_a_provider_tells_of_all_that_happens_and_of_no_edit_twice(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await attached(apps, "a", server, connect=False)
        await app.run("""
            state.events = []
            for (const name of ['open', 'message', 'authenticated', 'synced', 'disconnect', 'close']) {
              provider.on(name, () => { if (!state.events.includes(name)) state.events.push(name) })
            }
            state.observed = 0
            doc.getText('body').observe(() => { state.observed++ })
            provider.attach()
        """)
        await settled(app)
        await app.run("for (const letter of 'abc') doc.getText('body').insert(0, letter)")
        await app.saved()
        other = await attached(apps, "b", server)
        await other.has("cba")
        await app.run("provider.configuration.websocketProvider.disconnect()")
        events = await eventually(lambda: app.run("return state.events"), lambda events: "close" in events)
        assert sorted(events) == ["authenticated", "close", "disconnect", "message", "open", "synced"]
        assert await app.run("return state.observed") == 3


async def test_documents_in_documents_are_named_and_not_loaded(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app, other = await attached(apps, "a", server), await attached(apps, "b", server)
        await settled(app)
        guid = await app.run("""
            const inner = new Y.Doc()
            inner.getText().insert(0, 'hi')
            doc.getMap('m').set('inner', inner)
            return inner.guid
        """)
        await app.saved()
        found = await eventually(lambda: other.run("return doc.getMap('m').get('inner')?.guid ?? null"), bool)
        assert found == guid
        assert await other.run("return doc.getMap('m').get('inner').getText().toString()") == ""
