"""Reports of devices as metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from server.core.reports import DeviceReport, read_report
from server.runtime.device_reports import VERSIONS_MAX, DeviceReports


def test_counts_are_added_up_by_platform_and_version() -> None:
    registry = CollectorRegistry()
    reports = DeviceReports(registry)
    for retries in (2, 3):
        reports.add(
            DeviceReport("ios", "2.1", {"retries": retries, "crashes": 1, "outbox_age_s": 70.0, "current_s": 0.3})
        )
    labels = {"platform": "ios", "version": "2.1"}
    assert registry.get_sample_value("syncline_device_reports_total", labels) == 2
    assert registry.get_sample_value("syncline_device_retries_total", labels) == 5
    assert registry.get_sample_value("syncline_device_crashes_total", labels) == 2
    assert registry.get_sample_value("syncline_device_outbox_age_seconds_sum", labels) == 140
    assert registry.get_sample_value("syncline_device_current_seconds_bucket", {**labels, "le": "0.5"}) == 2


def test_a_flood_of_versions_makes_no_flood_of_metrics() -> None:
    registry = CollectorRegistry()
    reports = DeviceReports(registry)
    for n in range(5000):
        reports.add(read_report({"platform": f"p{n % 100}", "version": f"{n % 5000}.{n}", "retries": 1}))
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    shown = {sample.labels["version"] for sample in samples}
    assert len(shown) == VERSIONS_MAX + 1
    assert len({tuple(sample.labels.get(name) for name in ("platform", "version")) for sample in samples}) <= len(shown)
    counted = sum(sample.value for sample in samples if sample.name == "syncline_device_retries_total")
    assert counted == 5000
