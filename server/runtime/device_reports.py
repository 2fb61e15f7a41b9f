"""What devices tell of themselves, as metrics by platform and version, of which there are only so many."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from server.core.reports import OTHER, DeviceReport

VERSIONS_MAX = 20
"""Of one platform that are told apart, since the process began. A device may claim any."""
AGE_BUCKETS_S = (0, 1, 10, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400)
CURRENT_BUCKETS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
_LABELS = ["platform", "version"]


class DeviceReports:
    """Adds reports up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reports = Counter("syncline_device_reports", "REPORT frames.", _LABELS, registry=registry)
        self._counts = {
            "sync_failures": Counter(
                "syncline_device_sync_failures", "Problems that apps were told of.", _LABELS, registry=registry
            ),
            "retries": Counter("syncline_device_retries", "Connections tried again.", _LABELS, registry=registry),
            "crashes": Counter("syncline_device_crashes", "Apps that ended uncleanly.", _LABELS, registry=registry),
        }
        self._age_s = Histogram(
            "syncline_device_outbox_age_seconds",
            "Of the oldest edit.",
            _LABELS,
            buckets=AGE_BUCKETS_S,
            registry=registry,
        )
        self._current_s = Histogram(
            "syncline_device_current_seconds",
            "From connecting to current.",
            _LABELS,
            buckets=CURRENT_BUCKETS_S,
            registry=registry,
        )
        self._versions: dict[str, list[str]] = {}

    def add(self, report: DeviceReport) -> None:
        labels = (report.platform, self._known_version(report))
        self._reports.labels(*labels).inc()
        for name, counter in self._counts.items():
            if name in report.counts:
                counter.labels(*labels).inc(report.counts[name])
        for name, histogram in (("outbox_age_s", self._age_s), ("current_s", self._current_s)):
            if name in report.counts:
                histogram.labels(*labels).observe(report.counts[name])

    def _known_version(self, report: DeviceReport) -> str:
        known = self._versions.setdefault(report.platform, [])
        if report.version not in known:
            if len(known) >= VERSIONS_MAX or report.version == OTHER:
                return OTHER
            known.append(report.version)
        return report.version
