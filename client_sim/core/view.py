"""What the app reads of a device: nothing of it changes anything."""

from __future__ import annotations

from client_sim.core.context import Context
from client_sim.core.counters import Counters
from client_sim.core.document import Document
from client_sim.core.documents import Documents
from client_sim.core.line import Line
from client_sim.core.pending import Pending
from client_sim.core.status import Link, Status
from client_sim.core.telling import Teller


class View:
    """A device as it stands. Whoever changes it inherits from this."""

    def __init__(self, context: Context, line: Line, documents: Documents) -> None:
        self.documents = documents
        self._context = context
        self._line = line
        self._teller = Teller(context, line, documents)

    @property
    def counters(self) -> Counters:
        return self._context.counters

    @property
    def link(self) -> Link:
        return self._line.link

    @property
    def user(self) -> str | None:
        """Whose device it is; None until a server has said it."""
        return self.documents.user

    @property
    def status(self) -> Status:
        return self._teller.status()

    def document(self, name: str) -> Document:
        """A document that was opened. Raises NotOpen."""
        return self.documents[name]

    def document_status(self, name: str) -> Status:
        """As of `document`, with since when."""
        return self._teller.document_status(name)

    def current_at(self, name: str) -> float | None:
        """When a document was current last; None if it never was."""
        return self._teller.current_at(name)

    def pending(self, now: float) -> Pending:
        """What no server has acknowledged, of all documents, open or closed."""
        return self.documents.backlog(now)
