"""The terminal app: a list of notes, the note that is open, and a line that says how things stand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.widgets import Footer, ListItem, ListView, Static, TextArea

from client_sim import AsyncDevice, AsyncDocument, Problem, Status
from examples.notes.notebook import Notebook
from examples.notes.splice import difference, location


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server is, and whose device this is. `store` keeps the notes; None: nothing is kept."""

    url: str
    token: str
    device: str
    store: Path | None = None


class NotesApp(App[None]):
    """Two of these, side by side, show each other's notes as they are typed; F4 takes one of them offline."""

    CSS = """
    #notes { width: 28; border-right: solid $primary; }
    #status { height: 1; background: $panel; padding: 0 1; }
    """
    BINDINGS = [  # noqa: RUF012 - as the library wants it
        ("f2", "begin", "New note"),
        ("f4", "toggle_network", "Offline / online"),
        ("f10", "quit", "Quit"),
    ]

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.notebook: Notebook | None = None
        self.is_offline = False
        self._settings = settings
        self._device: AsyncDevice | None = None
        self._note: str | None = None
        self._shadow = ""
        """What the editor showed when it was last compared with the note."""
        self._is_writing = False
        self._listed: list[tuple[str, str]] = []
        self._problem: str | None = None
        self._leaving = asyncio.Event()
        self.list_view = ListView(id="notes")
        self.area = TextArea(id="text", disabled=True)
        self.status_line = Static("starting", id="status")

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield self.list_view
            yield self.area
        yield self.status_line
        yield Footer()

    def on_mount(self) -> None:
        self.title = self._settings.device
        self.run_worker(self._keep_in_sync(), name="device", exit_on_error=True)

    async def _keep_in_sync(self) -> None:
        """The device's life. What it tells comes in on this event loop, so widgets may be touched at once."""
        settings = self._settings
        async with AsyncDevice(
            settings.url, token=settings.token, device=settings.device, store=settings.store,
            on_change=self._on_change, on_status=self._on_status, on_error=self._on_problem,
            on_presence=lambda *_: self._show_status(),
        ) as device:  # fmt: skip
            self._device = device
            self.notebook = Notebook(await device.open("main"))
            await self._show_notes()
            self._show_status()
            await self._leaving.wait()
        self._device = None
        self.exit()

    async def action_quit(self) -> None:
        """Hang up, and leave."""
        self._leaving.set()

    # --- what the user does

    async def action_begin(self) -> None:
        if self.notebook is not None:
            self._open(self.notebook.begin())
            await self._show_notes()
            self.area.focus()

    def action_toggle_network(self) -> None:
        if self._device is None:
            return
        self.is_offline = not self.is_offline
        if self.is_offline:
            self._device.disconnect()
        else:
            self._device.connect()
        self._show_status()

    def on_list_view_selected(self, event: ListView.Selected) -> None:
        if event.item.name is not None:
            self._open(event.item.name)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Somebody typed here, or `_reconcile` showed what others did: that makes no difference, and no edit."""
        self._reconcile()

    def _open(self, note: str) -> None:
        assert self.notebook is not None
        self._reconcile()
        self._note, self._shadow = note, self.notebook.text(note)
        area = self.area
        area.disabled = False
        area.text = self._shadow
        area.move_cursor(area.document.end)
        self.notebook.look_at(note)
        self._show_status()

    def _reconcile(self) -> None:
        """Give the note what was typed, and the editor what others did, wherever the cursor is."""
        if self.notebook is None or self._note is None or self._is_writing:
            return
        shown = self.area.text
        self._is_writing = True  # the device tells of this edit too, before it returns
        try:
            merged = self.notebook.write(self._note, self._shadow, shown)
        finally:
            self._is_writing = False
        self._shadow = merged
        if (splice := difference(shown, merged)) is not None:
            self.area.replace(splice.insert, location(shown, splice.start), location(shown, splice.stop))

    # --- what the device tells

    def _on_change(self, document: AsyncDocument) -> None:
        if self.notebook is not None:
            self._reconcile()
            self.call_later(self._show_notes)
            self._show_status()

    def _on_status(self, document: AsyncDocument | None, status: Status) -> None:
        self._show_status()

    def _on_problem(self, problem: Problem) -> None:
        self._problem = problem.message or problem.code
        self._show_status()

    # --- showing

    async def _show_notes(self) -> None:
        if self.notebook is None:
            return
        listed = [(note.id, note.title) for note in self.notebook.notes()]
        if listed == self._listed:
            return
        self._listed = listed
        await self.list_view.clear()
        await self.list_view.extend(ListItem(Static(title, markup=False), name=id_) for id_, title in listed)

    def _show_status(self) -> None:
        if self._device is None or self.notebook is None or not self.is_running:
            return
        pending = self._device.pending.count
        parts = [f"{self._settings.device}: {'offline, as you wish' if self.is_offline else self._device.status}"]
        parts += [f"{pending} edits wait"] if pending else []
        titles = dict(self._listed)
        parts += [f"{who.device} reads {titles.get(who.note, 'a note')!r}" for who in self.notebook.visitors()]
        parts += [self._problem] if self._problem else []
        self.status_line.update(" | ".join(parts))
