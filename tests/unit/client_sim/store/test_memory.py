from __future__ import annotations

from client_sim.store import MemoryStore


def test_a_disk_that_did_not_sync_loses_the_last_transaction_alone() -> None:
    store = MemoryStore()
    for update in (b"a", b"b"):
        with store.transaction():
            store.append_updates("main", [update])
    lost = store.restarted(without_last_transaction=True)
    assert lost.load("main").updates == (b"a",)
    assert store.restarted().load("main").updates == (b"a", b"b")
    with lost.transaction():
        lost.append_updates("main", [b"c"])
    assert store.load("main").updates == (b"a", b"b")
