"""Documents over plain HTTP, on a real server. Every answer is held against the OpenAPI description."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from crdt.ids import DeviceId, DocumentId
from crdt.limits import Limits
from crdt.protocol.codes import Code
from crdt.replica import Replica
from crdt.update import EMPTY_UPDATE
from crdt.values import values_of
from server.core import events
from server.core.admission import AdmissionPolicy
from server.core.options import CoreOptions
from server.core.ports import StorageError
from server.core.rates import Rates
from server.runtime import visits
from server.runtime.api import answers, batch, routes
from server.runtime.api.description import DESCRIPTION
from server.runtime.api.problems import STATUS
from tests.integration.openapi import checked
from tests.integration.server_peers import WITHIN_S, new_device, put, text_updates, write
from tests.server_fixture import RunningServer, make_token, running_server
from tests.support import wait_until

MAIN = DocumentId("alice", "main")
logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs URLs
OCTETS = {"Content-Type": "application/octet-stream"}


@asynccontextmanager
async def backend(
    server: RunningServer, token: str | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that checks each answer against the description."""
    host, port = server.address
    auth = {"Authorization": f"Bearer {token or make_token('alice', 'backend')}"} if headers is None else headers
    async with httpx.AsyncClient(
        base_url=f"http://{host}:{port}",
        headers=auth,
        trust_env=False,
        timeout=WITHIN_S,
        event_hooks={"response": [checked]},
    ) as client:
        yield client


async def post(client: httpx.AsyncClient, update: bytes, doc: str = "main", key: str | None = None) -> httpx.Response:
    headers = OCTETS | ({"Idempotency-Key": key} if key is not None else {})
    return await client.post(f"/v1/docs/{doc}/updates", content=update, headers=headers)


def to_header(state_vector: bytes) -> dict[str, str]:
    return {"Syncline-State-Vector": base64.urlsafe_b64encode(state_vector).decode().rstrip("=")}


async def entries(server: RunningServer, document: DocumentId = MAIN) -> int:
    """How many the log has, on disk."""
    return (await server.storage.load(document)).head_seq


# --- reading


async def test_values_and_updates_of_what_devices_wrote(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, new_device(server.url) as phone, backend(server) as client:
        main = await phone.open("main")
        write(main, "hello there")
        put(main, "n", 1.0)
        await main.wait_durable(WITHIN_S)
        answer = await client.get("/v1/docs/main")
        assert answer.json() == {"body": "hello there", "data": {"n": 1}}
        assert (await client.get("/v1/docs/alice/main?root=data&root=none")).json() == {"data": {"n": 1}}
        assert (await client.get("/v1/docs/alice%2Fmain")).json() == answer.json()
        update = await client.get("/v1/docs/main?format=update")
        assert values_of(update.content) == answer.json()
        assert update.headers["ETag"] == answer.headers["ETag"]
        assert (await client.get("/v1/docs/main", headers={"Accept": OCTETS["Content-Type"]})).content == update.content


async def test_what_nobody_has_written_is_empty(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        answer = await client.get("/v1/docs/new")
        assert (answer.status_code, answer.json()) == (200, {})
        assert await entries(server, DocumentId("alice", "new")) == 0


async def test_a_version_that_the_client_has_is_not_sent_again(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        first, second = text_updates(7, ["first text", "second text"])
        tag = (await post(client, first)).headers["ETag"]
        for known in (tag, f'"x", {tag}', "*", tag.removeprefix("W/")):
            answer = await client.get("/v1/docs/main", headers={"If-None-Match": known})
            assert (answer.status_code, answer.headers["ETag"], answer.content) == (304, tag, b"")
        await post(client, second)
        answer = await client.get("/v1/docs/main", headers={"If-None-Match": tag})
        assert answer.json() == {"body": "first textsecond text"}
        assert answer.headers["ETag"] != tag


async def test_a_state_vector_gets_the_difference_alone(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        first, second = text_updates(7, ["first text " * 40, "second"])
        await post(client, first)
        replica = Replica.load([first])
        await post(client, second)
        answer = await client.get("/v1/docs/main", headers=to_header(replica.state_vector_bytes()))
        assert len(answer.content) < 60
        replica.apply([answer.content])
        assert replica.values() == {"body": "first text " * 40 + "second"}
        assert to_header(replica.state_vector_bytes()) == {
            "Syncline-State-Vector": answer.headers["Syncline-State-Vector"]
        }
        for bad in ("=!", base64.urlsafe_b64encode(b"\xff\xff").decode()):
            refused = await client.get("/v1/docs/main", headers={"Syncline-State-Vector": bad})
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_state")


async def test_a_large_document_is_whole(tmp_path: Path) -> None:
    """It comes in many chunks from the hub, and its values from a worker."""
    async with running_server(tmp_path) as server, backend(server) as client:
        texts = [chr(ord("a") + number) * 60_000 for number in range(10)]
        for written in text_updates(7, texts):
            assert (await post(client, written)).status_code == 200
        assert (await client.get("/v1/docs/main")).json() == {"body": "".join(texts)}
        update = await client.get("/v1/docs/main?format=update")
        assert values_of(update.content) == {"body": "".join(texts)}
        several = await asyncio.gather(*(client.get("/v1/docs/main") for _ in range(6)))
        assert {len(answer.content) for answer in several} == {600_000 + len('{"body":""}')}


# --- writing


async def test_an_update_is_answered_when_it_is_durable_and_others_have_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, new_device(server.url) as phone, backend(server) as client:
        main = await phone.open("main")
        await main.wait_current(WITHIN_S)
        (update,) = text_updates(7, ["from a backend"])
        answer = await post(client, update)
        assert answer.json() == {"seq": 1, "changed": True, "etag": answer.headers["ETag"]}
        assert await entries(server) == 1
        await wait_until(lambda: main.values() == {"body": "from a backend"})
        assert (await client.get("/v1/docs/main", headers={"If-None-Match": answer.headers["ETag"]})).status_code == 304


@pytest.mark.parametrize("key", [None, "order-17"])
async def test_what_is_sent_again_has_no_second_effect(tmp_path: Path, key: str | None) -> None:
    """At once, at the same time, and of a server that has started again."""
    (update, later) = text_updates(7, ["once and only once", "more"])
    async with running_server(tmp_path) as server, backend(server) as client:
        both = await asyncio.gather(post(client, update, key=key), post(client, update, key=key))
        assert sorted(answer.json()["seq"] for answer in both) in ([0, 1], [1, 1])
        again = (await post(client, update, key=key)).json()
        assert again["seq"] == (0 if key is None else 1)
        assert await entries(server) == 1
    async with running_server(tmp_path) as server, backend(server) as client:
        after = (await post(client, update, key=key)).json()
        assert (after["seq"], after["changed"], after["etag"]) == (0, False, again["etag"])
        assert await entries(server) == 1
        assert (await client.get("/v1/docs/main")).json() == {"body": "once and only once"}
        if key is not None:
            reused = await post(client, later, key="order-18")
            assert reused.json()["seq"] == 2
            reused = await post(client, update, key="order-18")
            assert (reused.status_code, reused.json()["code"]) == (422, "key_reused")


async def test_a_key_is_of_one_user_and_one_document(tmp_path: Path) -> None:
    first, second = text_updates(7, ["first text", "second text"])
    async with running_server(tmp_path) as server, backend(server) as client:
        bob = make_token("bob", "backend", docs={"alice/main": "rw"})
        assert (await post(client, first, key="k")).json()["seq"] == 1
        assert (await post(client, first, doc="other", key="k")).json()["seq"] == 1
        async with backend(server, bob) as other:
            answer = await post(other, text_updates(8, ["bob's text"])[0], doc="alice/main", key="k")
            assert answer.json()["seq"] == 2
        assert (await post(client, second, key="k")).json()["code"] == "key_reused"


async def test_an_update_that_misses_something_is_told_what_the_server_has(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        first, second = text_updates(7, ["first text", "second text"])
        answer = await post(client, second)
        assert (answer.status_code, answer.json()["code"]) == (409, "missing_deps")
        assert answer.json()["state_vector"] == "AA"
        assert await entries(server) == 0
        assert [(await post(client, update)).status_code for update in (first, second)] == [200, 200]


async def test_what_is_refused_is_told_by_status_and_code(tmp_path: Path) -> None:
    options = CoreOptions(limits=Limits(update_bytes=2_000))
    async with running_server(tmp_path, options=options) as server, backend(server) as client:
        (small,) = text_updates(7, ["small one"])
        large = text_updates(8, ["x" * 3_000])[0]
        for body, status, code in ((b"junk", 422, "bad_update"), (large, 413, "too_big"), (b"", 422, "bad_update")):
            answer = await post(client, body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), body[:10]

        async def parts() -> AsyncIterator[bytes]:
            for at in range(0, len(large), 500):
                yield large[at : at + 500]

        streamed = await client.post("/v1/docs/main/updates", content=parts(), headers=OCTETS)
        assert (streamed.status_code, streamed.json()["code"]) == (413, "too_big")
        typed = await client.post("/v1/docs/main/updates", content=small, headers={"Content-Type": "text/plain"})
        assert typed.status_code == 415
        assert (await post(client, small, key="k" * 256)).status_code == 400
        assert (await client.get("/v1/docs/main?format=xml")).status_code == 400
        assert (await client.get("/v1/docs/no name")).status_code == 403
        assert await entries(server) == 0
        assert (await post(client, EMPTY_UPDATE)).json()["changed"] is False
        assert (await post(client, small)).status_code == 200


# --- who may


async def test_tokens_and_grants_are_those_of_devices(tmp_path: Path) -> None:
    (update,) = text_updates(7, ["alice's text"])
    async with running_server(tmp_path) as server, backend(server) as client:
        assert (await post(client, update)).status_code == 200
        for headers, status, code in (
            ({}, 401, "bad_token"),
            ({"Authorization": "Basic YTpi"}, 401, "bad_token"),
            ({"Authorization": "Bearer no.token.this"}, 401, "bad_token"),
            ({"Authorization": f"Bearer {make_token('alice', 'b', ttl_s=-1)}"}, 401, "token_expired"),
            ({"Authorization": f"Bearer {make_token('bob', 'b')}"}, 403, "forbidden"),
        ):
            async with backend(server, headers=headers) as other:
                for answer in (await other.get("/v1/docs/alice/main"), await post(other, update, "alice/main")):
                    assert (answer.status_code, answer.json()["code"]) == (status, code)
        async with backend(server, make_token("bob", "b", docs={"alice/main": "r"})) as reader:
            assert (await reader.get("/v1/docs/alice/main")).json() == {"body": "alice's text"}
            answer = await post(reader, text_updates(8, ["bob's text"])[0], "alice/main")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert await entries(server) == 1


async def test_a_client_id_belongs_to_one_user_here_too(tmp_path: Path) -> None:
    first, second = text_updates(7, ["alice's text", "in her name"])
    async with running_server(tmp_path) as server, backend(server) as client:
        await post(client, first)
        async with backend(server, make_token("bob", "b", docs={"alice/main": "rw"})) as other:
            assert (await post(other, second, "alice/main")).json()["code"] == "bad_update"


async def test_a_token_in_the_url_is_refused(tmp_path: Path) -> None:
    """The first request of a connection or a later one."""
    async with running_server(tmp_path) as server, backend(server) as client:
        assert (await client.get("/v1/docs/main")).status_code == 200
        for name in ("token", "Access_Token"):
            answer = await client.get("/v1/docs/main", params={name: make_token("alice", "b")})
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_a_device_that_is_shut_out_is_so_here(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        assert (await client.get("/v1/docs/main")).status_code == 200
        server.driver.feed(events.RevocationsRead(frozenset({DeviceId("alice", "backend")})))
        answer = await client.get("/v1/docs/main")
        assert (answer.status_code, answer.json()["code"]) == (403, "device_revoked")


# --- load and trouble


async def test_who_uses_too_much_is_told_when_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "WAIT_S", 0.02)
    options = CoreOptions(rates=Rates(updates_per_s=20, burst_s=2.0))
    async with running_server(tmp_path, options=options) as server, backend(server) as client:
        got = [await client.get("/v1/docs/main") for _ in range(8)]
        assert got[0].status_code == 200
        assert got[-1].status_code == 429
        assert int(got[-1].headers["Retry-After"]) >= 1
        async with backend(server, make_token("bob", "b")) as other:
            assert (await other.get("/v1/docs/main")).status_code == 200


async def test_an_overloaded_server_lets_no_request_in(tmp_path: Path) -> None:
    options = CoreOptions(admission=AdmissionPolicy(memory_bytes=1))
    async with running_server(tmp_path, options=options) as server, backend(server) as client:
        server.driver.feed(events.PressureMeasured(0.0, 1 << 30))
        answer = await client.get("/v1/docs/main")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_server_that_drains_lets_no_request_in(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        await server.driver.drain()
        answer = await client.get("/v1/docs/main")
        assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


async def test_what_could_not_be_saved_is_never_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        (update,) = text_updates(7, ["not on a full disk"])

        async def full(batch: object) -> list[object]:
            raise StorageError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(type(server.storage), "append", lambda self, batch: full(batch))
            answer = await post(client, update, key="k")
            assert (answer.status_code, answer.json()["code"]) == (503, "not_saved")
            assert (await client.get("/v1/docs/main")).json() == {}
        assert (await post(client, update, key="k")).json()["seq"] == 1


async def test_a_document_that_was_put_aside_is_told_of(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        await post(client, text_updates(7, ["some text"])[0])
    async with running_server(tmp_path) as server, backend(server) as client:
        await server.storage.quarantine(MAIN, "it makes no sense")
        for answer in (await client.get("/v1/docs/main"), await post(client, EMPTY_UPDATE)):
            assert (answer.status_code, answer.json()["code"]) == (423, "doc_quarantined")


async def test_nothing_of_a_request_stays(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        for update in text_updates(7, ["first text", "second text"]):
            await post(client, update)
        await client.get("/v1/docs/main")
        assert not server.driver.visits
        await wait_until(lambda: server.metric("syncline_sessions") == 0)


# --- several at once


async def test_a_batch_answers_each_document_by_itself(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        tags = {}
        for name in ("one", "two", "three"):
            tags[name] = (await post(client, text_updates(7, [f"the text of {name}"])[0], name)).headers["ETag"]
        asked: list[dict[str, Any]] = [
            {"doc": "one"},
            {"doc": "alice/two", "roots": ["body"], "etag": tags["one"]},
            {"doc": "three", "etag": tags["three"]},
            {"doc": "bob/secret"},
            {"doc": "two", "roots": ["title"]},
            {"doc": "not a name"},
        ]
        answer = await client.post("/v1/docs:batch", json={"docs": asked})
        got = answer.json()["docs"]
        assert [one["doc"] for one in got] == [one["doc"] for one in asked]
        assert [one["status"] for one in got] == [200, 200, 304, 403, 200, 403]
        assert [one.get("values") for one in got] == [
            {"body": "the text of one"}, {"body": "the text of two"}, None, None, {}, None,
        ]  # fmt: skip
        assert [one.get("etag") for one in got[:3]] == [tags[name] for name in ("one", "two", "three")]


async def test_a_batch_is_bounded_in_documents_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "ANSWER_BYTES_MAX", 60)
    async with running_server(tmp_path) as server, backend(server) as client:
        for name in ("one", "two"):
            await post(client, text_updates(7, [f"forty bytes of text are in document {name}"])[0], name)
        got = (await client.post("/v1/docs:batch", json={"docs": [{"doc": "one"}, {"doc": "two"}]})).json()["docs"]
        assert [(one["status"], one.get("problem", {}).get("code")) for one in got] == [(200, None), (413, "too_big")]
        bodies: tuple[dict[str, Any], ...]
        bodies = ({}, {"docs": []}, {"docs": [{"doc": "x"}] * 101}, {"docs": [{"doc": 1}]}, {"docs": [{"x": 1}]})
        for body in bodies:
            answer = await client.post("/v1/docs:batch", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        large = {"docs": [{"doc": "x", "roots": ["r" * 10_000] * 30}]}
        assert (await client.post("/v1/docs:batch", json=large)).status_code == 413


# --- bounds


async def test_a_body_that_does_not_end_is_refused_before_its_end(tmp_path: Path) -> None:
    options = CoreOptions(limits=Limits(update_bytes=2_000))
    async with running_server(tmp_path, options=options) as server, backend(server) as client:
        reader, writer = await asyncio.open_connection(*server.address)
        token = client.headers["Authorization"]
        head = f"POST /v1/docs/main/updates HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"400\r\n%b\r\n" % bytes(1_024) * 2)
        assert (await asyncio.wait_for(reader.readline(), WITHIN_S)).split()[1] == b"413"
        writer.close()


async def test_a_body_has_so_long_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_S", 0.05)
    async with running_server(tmp_path) as server, backend(server) as client:
        reader, writer = await asyncio.open_connection(*server.address)
        token = client.headers["Authorization"]
        head = f"POST /v1/docs/main/updates HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode() + b"\x01")
        assert (await asyncio.wait_for(reader.readline(), WITHIN_S)).split()[1] == b"408"
        writer.close()


async def test_a_client_that_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server) as client:
        _, writer = await asyncio.open_connection(*server.address)
        token = client.headers["Authorization"]
        head = f"POST /v1/docs/main/updates HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode())
        await wait_until(lambda: len(server.driver.visits) == 1)
        writer.close()
        await wait_until(lambda: not server.driver.visits)


async def test_a_client_that_takes_nothing_is_bounded_in_time_and_others_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "UNSENT_BYTES_MAX", 900_000)
    monkeypatch.setattr(answers, "SENDING_S", 0.3)
    rates = CoreOptions(rates=replace(Rates(), answer_bytes_per_s=1 << 30))
    async with running_server(tmp_path, options=rates) as server, backend(server) as client:
        for update in text_updates(7, [chr(ord("a") + number) * 80_000 for number in range(10)]):
            await post(client, update)
        reader, writer = await asyncio.open_connection(*server.address, limit=1 << 12)
        token = client.headers["Authorization"]
        request = f"GET /v1/docs/main HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n"
        writer.write(request.encode() * 12)
        await reader.read(1)
        answer = await client.get("/v1/docs/main")
        if answer.status_code != 200:  # else the kernel has taken all of what was answered
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        async with asyncio.timeout(WITHIN_S):
            while (await client.get("/v1/docs/main")).status_code != 200:
                pass
        writer.transport.abort()


async def test_the_description_is_there_for_everybody(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, backend(server, headers={}) as client:
        answer = await client.get("/v1/openapi.json")
        assert answer.json()["openapi"] == "3.1.0"
        assert (await client.get("/v1/docs")).status_code == 404
        assert (await client.delete("/v1/docs/main")).status_code == 405


# --- docs/HTTP.md


async def test_the_documents_commands_run(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "HTTP.md").read_text()
    read, versions, push, several = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    (tmp_path / "update.bin").write_bytes(text_updates(7, ["the text of a note"])[0])
    async with running_server(tmp_path) as server:
        host, port = server.address
        environment = {"PATH": os.environ["PATH"], "SERVER": f"http://{host}:{port}"}
        environment["TOKEN"] = make_token("bob", "backend")

        async def shell(commands: str) -> str:
            process = await asyncio.create_subprocess_exec(
                "bash", "-euc", commands, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE
            )
            told, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
            assert process.returncode == 0, commands
            return told.decode()

        assert json.loads(await shell(push))["seq"] == 1
        assert await shell(read) == '{"body":"the text of a note"}' * 2
        assert values_of((tmp_path / "notes.bin").read_bytes()) == {"body": "the text of a note"}
        assert await shell(versions) == "304\n"
        assert [one["status"] for one in json.loads(await shell(several))["docs"]] == [200, 403]


def test_every_code_and_status_is_in_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "HTTP.md").read_text()
    table = dict(re.findall(r"^\| (\d{3}) \| (.*?) \|", text, re.MULTILINE))
    for code, status in STATUS.items():
        if code not in (Code.AUTH_TIMEOUT, Code.OP_GAP):  # a request says HELLO at once, and is told of no ops
            assert f"`{code}`" in table[str(int(status))], code
    described = {
        status
        for path in DESCRIPTION["paths"].values()
        for one in path.values()
        if isinstance(one, dict)
        for status in one.get("responses", ())
    }
    assert described - {"200", "304"} == set(table)
