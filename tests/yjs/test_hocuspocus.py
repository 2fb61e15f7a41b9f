"""Apps that use @hocuspocus/provider, unchanged but for the URL."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crdt.ids import DeviceId, DocumentId
from server.runtime import yjs_socket
from tests.integration.server_peers import converged, new_device, write
from tests.integration.server_process import ServerProcess, server_process
from tests.server_fixture import RunningServer, make_token, running_server
from tests.support import wait_until
from tests.yjs.apps import App, Apps, eventually, node_apps


def hocuspocus_url(server: RunningServer | ServerProcess) -> str:
    host, port = server.address
    return f"ws://{host}:{port}/hocuspocus"


async def app_of(apps: Apps, name: str, server: RunningServer | ServerProcess, user: str = "alice") -> App:
    """A user's app that is in sync, on a socket of its own."""
    await apps.socket(f"socket of {name}", hocuspocus_url(server))
    docs = {"alice/main": "rw"} if user != "alice" else None
    token = make_token(user, "web", docs=docs)
    app = await apps.hocuspocus(name, f"socket of {name}", "alice/main", token=token)
    await app.synced()
    await app.saved()
    return app


async def test_edits_are_saved_once_they_are_told_to_be_and_reach_all(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        assert (await alice.status())["scopes"] == ["read-write"]
        await alice.type("typed in an app")
        await alice.saved()
        assert (await server.storage.load(DocumentId("alice", "main"))).head_seq == 1
        await bob.has("typed in an app")
        await converged(document, to={"body": "typed in an app"})
        write(document, " and on a phone")
        await bob.has("typed in an app and on a phone")
        await alice.run("for (let i = 0; i < 50; i++) doc.getText('body').insert(0, '.')")
        await alice.saved()
        await converged(document, to={"body": "." * 50 + "typed in an app and on a phone"})


async def test_documents_share_a_socket_and_have_tokens_of_their_own(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server))
        one = await apps.hocuspocus("one", "s", "one", token=make_token("alice", "web"))
        two = await apps.hocuspocus("two", "s", "two", token=make_token("alice", "tablet"))
        guest = await apps.hocuspocus("guest", "s", "alice/three", token=make_token("bob", "web"))
        stale = await apps.hocuspocus("stale", "s", "four", token=make_token("alice", "web", ttl_s=-5))
        await one.synced()
        await two.synced()
        assert "forbidden" in (await guest.until(lambda status: status["denied"]))["denied"][0]
        assert "token_expired" in (await stale.until(lambda status: status["denied"]))["denied"][0]
        await one.type("first")
        await two.type("second")
        await one.saved()
        await two.saved()
        await one.do("detach")
        await two.type("still ")
        await two.saved()
        again = await apps.hocuspocus("again", "s", "one", token=make_token("alice", "web"))
        await again.has("first")
        assert await apps.do("closes", socket="s") == []


async def test_a_socket_that_waits_too_long_for_its_first_document_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yjs_socket, "TOKEN_WITHIN_S", 0.2)
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server))
        closes = await eventually(lambda: apps.do("closes", socket="s"), lambda closes: len(closes) > 1)
        assert closes[0] == [4401, "auth_timeout"]
        monkeypatch.undo()
        app = await apps.hocuspocus("a", "s", token=make_token("alice", "web"))
        await app.synced()


async def test_a_document_may_be_open_twice_on_one_socket(tmp_path: Path) -> None:
    """`sessionAwareness` adds a session to the document's name."""
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server))
        token = make_token("alice", "web")
        one, two = [
            await apps.hocuspocus(name, "s", token=token, sessionAwareness=True) for name in ("one", "two")
        ]  # fmt: skip
        await one.synced()
        await two.synced()
        await one.type("typed in one")
        await two.has("typed in one")
        await one.run("awareness.setLocalState({ name: 'one' })")
        await two.until(lambda status: {"name": "one"} in status["states"].values())


async def test_a_token_in_a_header_is_for_all_documents_without_one_of_their_own(tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {make_token('alice', 'web')}"}
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server), headers=headers)
        app = await apps.hocuspocus("a", "s", token="")
        guest = await apps.hocuspocus("b", "s", "alice/main", token=make_token("bob", "web"))
        await app.synced()
        assert (await guest.until(lambda status: status["denied"]))["denied"][0].startswith("forbidden")
        host, port = server.address
        other = await apps.y_websocket("y", f"ws://{host}:{port}/yjs", params={}, headers=headers)
        await other.synced()


async def test_a_read_only_scope(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice = await app_of(apps, "a", server)
        await alice.type("shown")
        await apps.socket("s", hocuspocus_url(server))
        bob = await apps.hocuspocus("b", "s", "alice/main", token=make_token("bob", "web", docs={"alice/main": "r"}))
        await bob.has("shown")
        assert (await bob.until(lambda status: status["scopes"]))["scopes"] == ["readonly"]
        await bob.until(lambda status: status["unsynced"] == 0)
        await bob.type("scribbled")
        await alice.type("more is ")
        assert "scribbled" in await eventually(bob.get, lambda text: "more is" in text)
        assert (await bob.status())["unsynced"] == 1
        await alice.has("more is shown")


async def test_stateless_messages_go_to_all_others(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.run("provider.sendStateless('a word')")
        assert (await bob.until(lambda status: status["stateless"]))["stateless"] == ["a word"]
        assert (await alice.status())["stateless"] == []


async def test_awareness_of_both_protocols_and_presence_are_one(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps, new_device(server.url) as device:
        document = await device.open("main")
        alice = await app_of(apps, "a", server)
        host, port = server.address
        other = await apps.y_websocket("y", f"ws://{host}:{port}/yjs", token=make_token("alice", "web"))
        await alice.run("provider.setAwarenessField('user', { name: 'alice' })")
        await other.until(lambda status: {"user": {"name": "alice"}} in status["states"].values())
        await other.run("awareness.setLocalState({ name: 'other' })")
        await alice.until(lambda status: {"name": "other"} in status["states"].values())
        await wait_until(lambda: len(document.peers) == 2)
        await alice.do("destroy")
        await other.until(lambda status: len(status["states"]) == 1)


async def test_a_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server))
        ends_s = time.time() + 1
        app = await apps.hocuspocus("a", "s", tokens=[make_token("alice", "web", ttl_s=1), make_token("alice", "web")])
        await app.synced()
        await wait_until(lambda: time.time() > ends_s + 0.2)
        await app.type("still here")
        await app.saved()
        assert (await app.status())["denied"] == []


async def test_a_document_whose_token_ends_is_denied_and_may_be_let_in_again(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        await apps.socket("s", hocuspocus_url(server))
        stays = await apps.hocuspocus("stays", "s", "stays", token=make_token("alice", "web"))
        app = await apps.hocuspocus("a", "s", token=make_token("alice", "web", ttl_s=1))
        await app.synced()
        status = await app.until(lambda status: status["closes"])
        assert status["denied"][0].startswith("token_expired")
        await app.type("written without a token")
        await stays.type("not disturbed")
        await stays.saved()
        token = make_token("alice", "web")
        await app.run(f"state.tokens = ['{token}']; provider.sendToken().then(() => provider.startSync())")
        await app.saved()
        other = await app_of(apps, "b", server)
        await other.has("written without a token")


async def test_a_revoked_device_is_denied(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await server.storage.revoke_devices([DeviceId("alice", "web")], 0)
        assert (await app.until(lambda status: status["denied"]))["denied"][0].startswith("device_revoked")


async def test_a_server_killed_between_edits(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, node_apps() as apps:
        alice, bob = await app_of(apps, "a", server), await app_of(apps, "b", server, "bob")
        await alice.type("saved. ")
        await alice.saved()
        await server.kill()
        await alice.type("typed while it was dead. ", at=7)
        await server.start()
        await bob.has("saved. typed while it was dead. ")
        await alice.saved()


async def test_a_shutdown_sends_apps_to_the_next_server(tmp_path: Path) -> None:
    async with server_process(tmp_path) as server, node_apps() as apps:
        app = await app_of(apps, "a", server)
        await app.type("before")
        server.terminate()
        assert await server.exited() == 0
        assert (await apps.do("closes", socket="socket of a"))[0] == [1012, "shutting_down"]
        await app.type("between ")
        await server.start()
        await app.saved()
