"""What waits goes out together: when it is time, or along with what wakes the radio anyway."""

from __future__ import annotations

from client_sim.core.context import Context
from client_sim.core.documents import Documents
from client_sim.core.keepalive import KeepAlive
from client_sim.core.pacing import REST_S_MIN, Policy
from client_sim.core.reporting import Reporter
from client_sim.core.status import State


class Radio:
    """Looks, after each event of an open connection, at what was sent and heard, and at what waits."""

    def __init__(self, context: Context, documents: Documents, reporter: Reporter) -> None:
        self.keepalive = KeepAlive()
        self._reporter = reporter
        self._context = context
        self._documents = documents
        self._looked_at = 0.0
        self._was_open = True

    def deadline(self) -> float | None:
        """When what waits has waited long enough; None if it waits for something else."""
        if self._context.pacing.is_open:
            return None
        since = self._documents.waits_since(self._looked_at)
        return None if since is None else since + self._context.pacing.latency_s

    @property
    def rests(self) -> bool:
        """A saver is connected only as long as there is something to send, or to wait for."""
        pacing = self._context.pacing
        is_busy = self._documents.is_any(State.SYNCING) or self._documents.prefetch.is_busy
        return pacing.policy is Policy.SAVER and pacing.latency_s >= REST_S_MIN and not is_busy

    def send_what_waits(self, now: float) -> None:
        """At once, and what is still on its way as soon as there is room."""
        self._context.pacing.release()
        for document in self._documents.synced():
            document.flush(now)
        if self._documents.waits_since(now) is None:
            self._context.pacing.hold()

    def send_edits(self, name: str, now: float) -> None:
        """Of one document, unless they wait for others, or the app closed it in the midst of an edit."""
        if (document := self._documents.by_name.get(self._documents.key(name))) is not None:
            document.flush(now)

    def pace(self, now: float) -> None:
        self._looked_at = now
        pacing = self._context.pacing
        is_up = self._context.take_traffic()
        woken = is_up and pacing.traffic(now)
        opens, self._was_open = pacing.is_open and not self._was_open, pacing.is_open
        due = self.deadline()
        if pacing.is_released or woken or opens or (due is not None and now >= due):
            self.send_what_waits(now)
        if self._context.take_traffic():
            is_up = True
            pacing.traffic(now)
        if is_up and self._context.errand is None and self._reporter.is_due(now):
            self._context.report(self._reporter.report(self._documents.backlog(now), now))
        asked = self._context.take_asked()
        if asked or self._documents.await_answers():  # which nothing else that was heard meanwhile answers
            self.keepalive.asked(asked, now)
