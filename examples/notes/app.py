"""The terminal app: a list of notes, the note that is open, and a line that says how things stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.widgets import Footer, ListItem, ListView, Static, TextArea

from client_sim import (
    AsyncDevice,
    AsyncDocument,
    EditTooBig,
    Problem,
    Status,
    StoreDamaged,
    StoreError,
    StoreRefused,
    explain,
)
from examples.notes.notebook import Notebook
from examples.notes.splice import difference, location


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server is, and whose device this is. `store` keeps the notes; None: nothing is kept."""

    url: str
    token: str
    device: str
    store: Path | None = None


class NotesApp(App[str]):
    """Two of these, side by side, show each other's notes as they are typed; F4 takes one of them offline.

    What it returns is why it could not go on; None if its user left.
    """

    CSS = """
    #notes { width: 28; border-right: solid $primary; }
    #status { height: auto; max-height: 3; background: $panel; padding: 0 1; }
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
        self._unkept: str | None = None
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
        """The device's life. A store that can not be used ends the app, in words."""
        try:
            await self._live()
        except (StoreError, StoreRefused, StoreDamaged) as exc:
            self.exit(f"what this device keeps can not be used now: {exc}")
        else:
            self.exit()

    async def _live(self) -> None:
        """What the device tells comes in on this event loop, so widgets may be touched at once."""
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

    async def action_quit(self) -> None:
        """Hang up, and leave."""
        self._leaving.set()

    # --- what the user does

    async def action_begin(self) -> None:
        if self.notebook is not None and (note := self._kept(self.notebook.begin)) is not None:
            self._open(note)
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
        notebook, note, shadow, shown = self.notebook, self._note, self._shadow, self.area.text
        if notebook is None or note is None or self._is_writing:
            return
        self._is_writing = True  # the device tells of this edit too, before it returns
        try:
            merged = self._kept(lambda: notebook.write(note, shadow, shown))
        finally:
            self._is_writing = False
        if merged is None:
            return
        self._shadow = merged
        if (splice := difference(shown, merged)) is not None:
            self.area.replace(splice.insert, location(shown, splice.start), location(shown, splice.stop))

    def _kept(self, write: Callable[[], str]) -> str | None:
        """What `write` gives; None where the device could not keep it: it is tried again with the next letter."""
        try:
            kept = write()
        except (EditTooBig, StoreError) as exc:
            self._unkept, kept = f"NOT KEPT: {exc}", None
        else:
            self._unkept = None
        self._show_status()
        return kept

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
        self._mark_open()

    def _mark_open(self) -> None:
        """In the list, the note that the editor shows."""
        notes = [note for note, _ in self._listed]
        self.list_view.index = notes.index(self._note) if self._note in notes else None

    def _show_status(self) -> None:
        if self._device is None or self.notebook is None or not self.is_running:
            return
        pending = self._device.pending.count
        parts = [f"{self._settings.device}: {'offline, as you wish' if self.is_offline else self._device.status.state}"]
        parts += [f"{pending} edits wait"] if pending else []
        titles = dict(self._listed)
        parts += [f"{who.device} reads {titles.get(who.note, 'a note')!r}" for who in self.notebook.visitors()]
        parts += [news for news in (self._unkept, self._problem, self._explanation()) if news]
        self.status_line.update(" | ".join(parts))

    def _explanation(self) -> str | None:
        """Why the device or the document is not as it should be, and what to do."""
        if self.is_offline or self._device is None or self.notebook is None:
            return None
        reasons = (self._device.status.reason, self.notebook.document.status.reason)
        return next((" ".join(explain(reason)) for reason in reasons if reason is not None), None)
