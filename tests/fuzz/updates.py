"""A document that honest devices and a hostile one write to, drawn from a number."""

from __future__ import annotations

from random import Random

from crdt.errors import BadUpdate
from crdt.update import read_update
from tests.fuzz import grammar, mutation, patterns
from tests.fuzz.honest import Phone
from tests.fuzz.raw import Raw, parse
from tests.fuzz.trial import Trial

UPDATE_BYTES_MAX = 64 << 10
"""Larger ones are rehearsed in a process that may die of them."""


_OWN_CLIENTS = 900
"""The client ids of devices that are at work begin here. Who can guess one spoils that device alone."""


def _writes_as_another(data: bytes) -> bool:
    try:
        return any(_OWN_CLIENTS <= client < _OWN_CLIENTS + 100 for client in read_update(data).sections)
    except BadUpdate:
        return False


class Document:
    """Makes the steps that a Trial takes."""

    def __init__(self, random: Random, trial: Trial) -> None:
        self.random = random
        self.trial = trial
        self.phones = [Phone(client) for client in (1, 2, 3)[: random.choice((1, 2, 2, 3))]]
        self.received = [0] * len(self.phones)
        self.honest: list[bytes] = []
        self.sent: list[Raw] = []
        self.hostile = random.choice(("alice", "alice", "alice", "alice", "mallory"))
        self.clients = random.choice(((1, 2, 3), (1, 2, 50), (50, 51), (50,), (1, 2, 3, 50, 51, 52)))
        self.batched = random.random() < 0.3
        self.weights = random.choice(((2, 6, 1, 3), (1, 10, 0, 1), (6, 2, 1, 2), (2, 2, 3, 1), (0, 12, 2, 1)))

    def live(self) -> None:
        """From the beginning to the end of a case. Raises Finding."""
        for _ in range(self.random.choice((0, 2, 6, 15, 30))):
            self._edit()
        self.trial.take(["commit"])
        self._restart_phones()
        for _ in range(self.random.choice((5, 12, 25, 40))):
            (act,) = self.random.choices(
                (self._mutated, self._composed, self._pattern, self._edit), weights=self.weights
            )
            act()
            if not self.batched or self.random.random() < 0.3:
                self.trial.take(["commit"])
            if self.random.random() < 0.08:
                self.trial.take([self.random.choice(("compact", "reload", "reread", "setback"))])
        self.trial.take(["commit"])
        self._newcomer()
        self.trial.take(["end"])

    def _edit(self, newcomer: Phone | None = None) -> None:
        index = self.random.randrange(len(self.phones))
        phone = newcomer or self.phones[index]
        self.trial.take(["commit"])
        kinds = self.trial.editable()
        if newcomer is None and self.random.random() < 0.5:
            for logged in self.trial.accepted[self.received[index] :]:
                phone.receive(logged)
            self.received[index] = len(self.trial.accepted)
        update = phone.edit(self.random, kinds) if kinds else None
        if update is not None:
            self.honest.append(update)
            self.trial.take(["honest", update.hex(), phone.doc.client_id])
            self.trial.take(["commit"])

    def _restart_phones(self) -> None:
        """The apps begin anew, and draw client ids that nobody else writes under. The old ones are anybody's."""
        for index in range(len(self.phones)):
            self.phones[index] = Phone(_OWN_CLIENTS + index)
            self.received[index] = 0

    def _newcomer(self) -> None:
        """A device that loads the document now, and edits it."""
        phone = Phone(_OWN_CLIENTS + 50)
        for update in self.trial.accepted:
            phone.receive(update)
        for _ in range(3):
            self._edit(phone)

    # --- hostile ones

    def _send(self, data: bytes) -> None:
        if len(data) <= UPDATE_BYTES_MAX and not _writes_as_another(data):
            self.trial.take(["push", self.hostile, data.hex()])

    def _mutated(self) -> None:
        known = self.honest or self.trial.accepted
        if not known:
            self._send(self.random.randbytes(self.random.randrange(40)))
            return
        update = self.random.choice(known[-12:] if self.random.random() < 0.6 else known)
        if self.random.random() < 0.35:
            self._send(mutation.bytes_changed(self.random, update, known))
            return
        others = [parse(other) for other in (update, self.random.choice(known))]
        self._send_raw(mutation.fields_changed(self.random, others[0], others))

    def _composed(self) -> None:
        raw = grammar.compose(self.random, self.trial.atlas, self.clients)
        if self.random.random() < 0.1:
            raw = mutation.fields_changed(self.random, raw, [raw, *self.sent[-5:]])
        self._send_raw(raw)

    def _pattern(self) -> None:
        if self.batched:
            self.trial.take(["commit"])
        self._send_raw(patterns.pattern(self.random, self.trial.atlas))
        self.trial.take(["commit"])

    def _send_raw(self, raw: Raw) -> None:
        self.sent.append(raw)
        data = raw.encode()
        if self.random.random() < 0.05 and data:
            data = mutation.bytes_changed(self.random, data, [data])
        self._send(data)


def case(random: Random, trial: Trial) -> None:
    """Raises Finding."""
    Document(random, trial).live()
