"""Apps with an undo manager: whatever it writes is taken, and means the same to everybody."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.server_fixture import RunningServer, make_token, running_server
from tests.yjs.apps import App, Apps, eventually, node_apps

SEEDS = range(40 if os.environ.get("SYNCLINE_SOAK") else 1)
STEPS = 40

UNDO = """
  state.undo = new Y.UndoManager([doc.getArray('body')], { captureTimeout: 1e9 })
  state.step = edit => { state.undo.stopCapturing(); doc.transact(edit) }
"""

RANDOM_EDIT = """
  let seed = SEED
  const below = end => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >> 8) % end }
  const value = () => below(2) ? below(100) : Y.Array.from([below(100), below(100)].slice(below(3)))
  let list = doc.getArray('body')
  for (;;) {
    const inner = list.toArray().filter(value => value instanceof Y.Array)
    if (!inner.length || !below(4)) break
    list = inner[below(inner.length)]
  }
  const at = below(list.length + 1)
  if (below(3)) state.step(() => list.insert(at, [value()]))
  else state.step(() => list.delete(at, Math.min(1 + below(2), list.length - at)))
"""


async def app_of(apps: Apps, name: str, server: RunningServer) -> App:
    host, port = server.address
    app = await apps.y_websocket(name, f"ws://{host}:{port}/yjs", token=make_token("alice", "web"))
    await app.synced()
    await app.run(UNDO)
    return app


async def test_a_list_that_is_brought_back_has_what_it_had_where_it_was(tmp_path: Path) -> None:
    """Yjs puts one of the values behind and before the same one: `x` was on either side of it in the list that went."""
    async with running_server(tmp_path) as server, node_apps() as apps:
        alice, other = await app_of(apps, "a", server), await app_of(apps, "b", server)
        await alice.run("state.step(() => doc.getArray('body').insert(0, [Y.Array.from(['x'])]))")
        await alice.run("state.step(() => doc.getArray('body').get(0).delete(0, 1))")
        await alice.run("state.undo.undo()")
        await alice.run("state.step(() => doc.getArray('body').get(0).insert(1, ['j']))")
        await alice.run("state.step(() => doc.getArray('body').get(0).insert(1, ['i']))")
        await alice.run("state.step(() => doc.getArray('body').delete(0, 1))")
        await alice.run("state.undo.undo()")
        assert await alice.get("array") == [["x", "i", "j"]]
        await other.has([["x", "i", "j"]], "array")
        await other.run(
            "doc.getArray('body').get(0).insert(1, ['between']); doc.getArray('body').get(0).push(['last'])"
        )
        await alice.has([["x", "between", "i", "j", "last"]], "array")
        assert (await alice.status())["closes"] == []
    async with running_server(tmp_path) as server, node_apps() as apps:
        late = await app_of(apps, "late", server)
        await late.has([["x", "between", "i", "j", "last"]], "array")


@pytest.mark.parametrize("seed", SEEDS)
async def test_apps_that_undo_and_redo_apart_converge(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with running_server(tmp_path) as server, node_apps() as apps:
        both = [await app_of(apps, "a", server), await app_of(apps, "b", server)]
        for _ in range(STEPS):
            await _act(random.choice(both), random)
        for app in both:
            await app.do("connect")
            await app.synced()
        first, second = both
        final = await eventually(lambda: _shown_by(first, second), lambda shown: shown[0] == shown[1])
        late = await app_of(apps, "late", server)
        await late.has(final[0], "array")
        assert [(await app.status())["closed"] for app in both] == [None, None]


async def _act(app: App, random: Random) -> None:
    match random.randrange(20):
        case 0:
            await app.do(random.choice(("connect", "disconnect")))
        case 1 | 2 | 3 | 4:
            await app.run("for (let n = 0; n < 2; n++) state.undo.undo()")
        case 5 | 6:
            await app.run("state.undo.redo()")
        case _:
            await app.run(RANDOM_EDIT.replace("SEED", str(random.randrange(1 << 30))))


async def _shown_by(first: App, second: App) -> list[object]:
    return [await first.get("array"), await second.get("array")]
