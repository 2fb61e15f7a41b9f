"""What an operator sees: metrics in Prometheus' terms, and log lines. Never a token, never a document's content."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from structlog.dev import plain_traceback
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from crdt.protocol.frames import Mode
from server.core.ports import Levels
from server.core.reports import DeviceReport
from server.runtime.device_reports import DeviceReports
from server.runtime.transport import TransportCounters

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZE_BUCKETS_BYTES = (0, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304)
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000)


class PrometheusMeter:
    """Counts what the core does (`server.core.ports.Meter`)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._received = Counter("syncline_updates_received", "Updates whose commit began.", registry=registry)
        self._refused = Counter("syncline_refused", "Errors sent to devices.", ["code"], registry=registry)
        self._commit_entries = Histogram(
            "syncline_commit_batch_entries", "Log entries in a commit.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._commit_s = Histogram(
            "syncline_commit_seconds", "A commit, synced.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self._acknowledged = Counter("syncline_updates_acknowledged", "Updates acknowledged.", registry=registry)
        self._ack_s = Histogram(
            "syncline_ack_seconds", "From an update to its ACK.", buckets=LATENCY_BUCKETS_S, registry=registry
        )
        self._delivered = Counter("syncline_updates_delivered", "Updates times receivers.", registry=registry)
        self._delivery_s = Histogram(
            "syncline_delivery_seconds",
            "From an update to its DELTAs.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        catch_up_bytes = Histogram(
            "syncline_catch_up_bytes", "Updates in an OPENED.", ["mode"], buckets=SIZE_BUCKETS_BYTES, registry=registry
        )
        self._catch_up_bytes: dict[str, Histogram] = {mode.value: catch_up_bytes.labels(mode.value) for mode in Mode}
        self._rehearsals = Counter("syncline_rehearsals", "Large or dear pushes tried.", ["outcome"], registry=registry)
        self._quarantined = Counter("syncline_documents_quarantined", "Failed to load twice.", registry=registry)
        self._resyncs = Counter("syncline_resyncs", "Devices that lost track, and slow readers.", registry=registry)
        self._audits = Counter("syncline_audits", "Digests compared.", ["result"], registry=registry)
        self._held = Counter("syncline_reading_paused", "Devices made to wait.", ["why"], registry=registry)
        self._presences_dropped = Counter("syncline_presences_dropped", "Replaced by later ones.", registry=registry)
        self._reports = DeviceReports(registry)

    def refused(self, code: str) -> None:
        self._refused.labels(str(code)).inc()

    def received(self, updates: int) -> None:
        self._received.inc(updates)

    def committed(self, entries: int, seconds: float) -> None:
        self._commit_entries.observe(entries)
        self._commit_s.observe(seconds)

    def acknowledged(self, updates: int, seconds: float) -> None:
        self._acknowledged.inc(updates)
        self._ack_s.observe(seconds)

    def delivered(self, deliveries: int, seconds: float) -> None:
        self._delivered.inc(deliveries)
        self._delivery_s.observe(seconds)

    def caught_up(self, mode: str, update_bytes: int) -> None:
        self._catch_up_bytes[mode].observe(update_bytes)

    def rehearsed(self, outcome: str) -> None:
        self._rehearsals.labels(outcome).inc()

    def quarantined(self) -> None:
        self._quarantined.inc()

    def held(self, why: str) -> None:
        self._held.labels(why).inc()

    def presence_dropped(self) -> None:
        self._presences_dropped.inc()

    def resynced(self) -> None:
        self._resyncs.inc()

    def audited(self, ok: bool) -> None:
        self._audits.labels("equal" if ok else "different").inc()

    def reported(self, report: DeviceReport) -> None:
        self._reports.add(report)


class Telemetry:
    """The process's metrics. `registry` is what /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.meter = PrometheusMeter(self.registry)
        self._sessions = Gauge("syncline_sessions", "Connections past HELLO.", registry=self.registry)
        self._rooms = Gauge("syncline_rooms", "Documents in memory.", registry=self.registry)
        self._resident = Gauge("syncline_resident_bytes", "Documents, estimated.", registry=self.registry)
        self._queued = Gauge("syncline_queued_bytes", "Updates not committed yet.", registry=self.registry)
        self._loads = Gauge("syncline_loads_waiting", "Documents being loaded.", registry=self.registry)
        self._hellos = Gauge("syncline_hellos_waiting", "HELLOs not looked at yet.", registry=self.registry)
        self._overloaded = Gauge("syncline_overloaded", "Nobody new is let in.", registry=self.registry)
        self._memory = Gauge("syncline_memory_bytes", "Of the process.", registry=self.registry)
        self._answers = Counter(
            "syncline_http_answers", "To requests for documents.", ["status"], registry=self.registry
        )
        self._lag = Histogram(
            "syncline_loop_lag_seconds",
            "How late the loop is.",
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._snapshots = Histogram(
            "syncline_snapshot_bytes", "Snapshots written.", buckets=SIZE_BUCKETS_BYTES, registry=self.registry
        )

    def watch(self, counters: TransportCounters) -> None:
        """Show a listener's totals, read when somebody asks."""
        self.registry.register(_TransportCollector(counters))

    def levels(self, levels: Levels) -> None:
        """How much there is now."""
        self._sessions.set(levels.sessions)
        self._rooms.set(levels.rooms)
        self._resident.set(levels.resident_bytes)
        self._queued.set(levels.queued_bytes)
        self._loads.set(levels.loads_waiting)
        self._hellos.set(levels.hellos_waiting)
        self._overloaded.set(levels.is_overloaded)

    def pressure(self, lag_s: float, memory_bytes: int) -> None:
        """How late the loop was, and what the process takes."""
        self._lag.observe(lag_s)
        self._memory.set(memory_bytes)

    def answered(self, status: int) -> None:
        """An HTTP request for documents was answered."""
        self._answers.labels(str(status)).inc()

    def compacted(self, snapshot_bytes: int) -> None:
        self._snapshots.observe(snapshot_bytes)


class _TransportCollector(Collector):
    def __init__(self, counters: TransportCounters) -> None:
        self._counters = counters

    def collect(self) -> list[Metric]:
        counters = self._counters
        return [
            CounterMetricFamily("syncline_received_bytes", "Bytes of TCP.", value=counters.bytes_received),
            CounterMetricFamily("syncline_sent_bytes", "Bytes of TCP.", value=counters.bytes_sent),
            CounterMetricFamily("syncline_connections", "Accepted.", value=counters.connections_accepted),
            CounterMetricFamily("syncline_handshakes_refused", "Not ours.", value=counters.handshakes_refused),
            CounterMetricFamily("syncline_connections_aborted", "Cut by us.", value=counters.connections_aborted),
            CounterMetricFamily("syncline_connections_crowded_out", "Gave way.", value=counters.crowded_out),
            GaugeMetricFamily(
                "syncline_sockets", "WebSockets up.", value=counters.sockets_opened - counters.sockets_closed
            ),
        ]


def configure_logging(log_format: Literal["json", "console"], level: str) -> None:
    """One line an event, on standard error, for our loggers and those of the libraries; debug is for ours alone.

    Tracebacks come without the values of variables: those are tokens, and what people wrote.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [ExceptionRenderer(ExceptionDictTransformer(show_locals=False)), structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper() if level != "debug" else logging.INFO)  # libraries' details have statements' values
    logging.getLogger("syncline").setLevel(level.upper())
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # a stranger's broken request is no traceback of ours
    logging.getLogger("alembic").setLevel(logging.WARNING)  # an upgrade is told by ourselves
