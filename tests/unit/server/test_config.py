"""Settings: read from the environment, refused in one clear line, and documented as they are."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from crdt.limits import Limits
from crdt.protocol.codes import Code
from server.config import (
    BadSetting,
    KeySettings,
    ServeSettings,
    SettingRow,
    documented,
    misspelled,
    option,
    read_settings,
    variable,
)
from server.core.admission import AdmissionPolicy
from server.core.compaction import CompactionPolicy
from server.core.options import CoreOptions
from server.core.rates import Rates
from server.runtime.telemetry import Telemetry
from server.runtime.transport import TransportCounters, TransportOptions

REPOSITORY = Path(__file__).parents[3]
OPERATIONS = REPOSITORY / "docs" / "OPERATIONS.md"
SOURCES = REPOSITORY / "server"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ServeSettings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def test_without_settings_everything_has_the_defaults_of_core_and_transport() -> None:
    settings = read_settings(ServeSettings)
    assert settings.core_options() == CoreOptions()
    transport, defaults = settings.transport_options(), TransportOptions()
    assert transport.outbox_bytes_max == defaults.outbox_bytes_max
    assert transport.outbox_bytes_cap == defaults.outbox_bytes_cap
    assert transport.message_bytes_max == defaults.message_bytes_max
    assert (settings.host, settings.port) == ("127.0.0.1", 8787)


def test_the_environment_is_read_and_an_option_counts_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_PORT", "1234")
    monkeypatch.setenv("SYNCLINE_HOST", "::1")
    settings = read_settings(ServeSettings, {"port": "4321"})
    assert (settings.host, settings.port) == ("::1", 4321)


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_PORT", "")
    assert read_settings(ServeSettings).port == 8787


def test_every_limit_and_every_part_of_the_compaction_policy_can_be_set() -> None:
    names = ServeSettings.model_fields
    assert all(limit.name in names for limit in fields(Limits))
    assert all(f"compaction_{part.name}" in names for part in fields(CompactionPolicy))


def test_every_rate_and_every_bound_of_admission_can_be_set_and_arrives() -> None:
    rates = {rate.name: 7 for rate in fields(Rates)}
    bounds = {f"overload_{bound.name}": 5 for bound in fields(AdmissionPolicy)}
    others = ("sessions_per_user", "offences_max", "asked_max", "session_queued_bytes_max", "queued_bytes_max")
    core = read_settings(
        ServeSettings, rates | bounds | dict.fromkeys((*others, "payload_bytes_max"), 3)
    ).core_options()
    assert set(asdict(core.rates).values()) == {7}
    assert set(asdict(core.admission).values()) == {5}
    assert {getattr(core, name) for name in (*others, "payload_bytes_max")} == {3}


def test_what_is_set_arrives() -> None:
    given = {
        "update_bytes": "64KiB",
        "heartbeat_s": "5",
        "compaction_age_s": "60",
        "resident_bytes_max": "1GiB",
        "origins": "https://a.example, https://b.example",
        "outbox_bytes_max": "32MiB",
    }
    settings = read_settings(ServeSettings, given)
    core, transport = settings.core_options(), settings.transport_options()
    assert core.limits.update_bytes == 64 << 10
    assert core.limits.differing() == {"update_bytes": 64 << 10}
    assert (core.heartbeat_s, core.compaction.age_s, core.resident_bytes_max) == (5, 60, 1 << 30)
    assert transport.origins == ("https://a.example", "https://b.example")
    assert transport.ping_interval_s + transport.ping_timeout_s == 2 * core.heartbeat_s
    assert transport.outbox_drained_bytes < transport.outbox_bytes_max < transport.outbox_bytes_cap


def test_every_limit_arrives() -> None:
    halves = {name: value // 2 for name, value in asdict(Limits()).items()}
    assert asdict(read_settings(ServeSettings, halves).core_options().limits) == halves


def test_limits_are_plain_integers_for_they_go_on_the_wire() -> None:
    limits = read_settings(ServeSettings, {"update_bytes": "64KiB"}).core_options().limits
    assert all(type(getattr(limits, limit.name)) is int for limit in fields(Limits))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("sqlite:///data/x.db", "sqlite+aiosqlite:///data/x.db"),
        ("sqlite:////var/lib/x.db", "sqlite+aiosqlite:////var/lib/x.db"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db"),
    ],
)
def test_a_sqlite_url_gets_its_driver(given: str, read: str) -> None:
    assert read_settings(ServeSettings, {"database_url": given}).database_url == read


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"database_url": "postgresql://localhost/x"}, "PostgreSQL is not supported yet"),
        ({"database_url": "mysql://localhost/x"}, "sqlite:///"),
        ({"database_url": "data/x.db"}, "sqlite:///"),
        ({"database_url": "sqlite://"}, "sqlite:///"),
        ({"database_url": "sqlite:///:memory:"}, "sqlite:///"),
        ({"workers": "2"}, "only 1"),
        ({"port": "65536"}, "65535"),
        ({"port": "http"}, "integer"),
        ({"heartbeat_s": "0"}, "greater than or equal to 0.1"),
        ({"heartbeat_s": "1e300"}, "less than or equal to"),
        ({"message_bytes": "99999999999999999999999"}, "less than or equal to"),
        ({"database_url": "sqlite:///x.db?timeout=abc"}, "sqlite:///path/to/file"),
        ({"heartbeat_s": "inf"}, "finite"),
        ({"update_bytes": "1 parsec"}, "byte"),
        ({"log_level": "chatty"}, "'warning'"),
        ({"insecure_dev": "perhaps"}, "boolean"),
        ({"origins": "https://app.example/"}, "without a path"),
        ({"origins": "https://good.example,app.example"}, "https://app.example.com"),
        ({"proxies": "10.0.0.0/99"}, "network"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(given: dict[str, str], says: str) -> None:
    with pytest.raises(BadSetting) as refused:
        read_settings(ServeSettings, given)
    (name,) = given
    text = str(refused.value)
    assert text.startswith(f"{option(name)} or {variable(name)}: ")
    assert says in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "given",
    [
        {"tls_cert": "cert.pem"},
        {"tls_key": "key.pem"},
        {"update_bytes": "4MiB"},
        {"hello_bytes": "8MiB"},
        {"hello_bytes": "8KiB"},
    ],
)
def test_settings_that_do_not_fit_together_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match=next(iter(given))):
        read_settings(ServeSettings, given)


def test_a_secret_is_no_option_and_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_JWT_SECRET", "a secret of at least thirty-two bytes")
    assert option("jwt_secret") is None
    assert "thirty-two" not in repr(read_settings(KeySettings))


def test_variables_that_nearly_are_settings_are_reported() -> None:
    environment = {
        "SYNCLINE_PROT": "1",
        "SYNCLINE_PORT": "1",
        "SYNCLINE_SOAK": "1",
        "SYNCLINE_TRACES": "x",
        "PORT": "1",
    }
    assert misspelled(environment) == ["SYNCLINE_PROT is not a setting, and ignored: did you mean SYNCLINE_PORT?"]


def test_the_configuration_table_is_what_there_is() -> None:
    table = [line for line in OPERATIONS.read_text().splitlines() if line.startswith("| `SYNCLINE_")]
    assert table == [_documented(row) for row in documented()]


def _documented(row: SettingRow) -> str:
    cells = [row.variable, row.option, row.default]
    code = [f"`{cell}`" if cell else "" for cell in cells]
    return f"| {' | '.join(code)} | {row.description} |"


def test_the_table_of_bounds_names_every_one_of_them_with_codes_that_there_are() -> None:
    text = OPERATIONS.read_text()
    table = text[text.index("## Limits") : text.index("### Admission")]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    named = [name for cells in rows for name in re.findall(r"`([a-z_]+)`", cells[0])]
    rates = {rate.name for rate in fields(Rates)} | {f"overload_{bound.name}" for bound in fields(AdmissionPolicy)}
    others = {"sessions_per_user", "offences_max", "asked_max", "session_queued_bytes_max", "queued_bytes_max"}
    bounds = rates | others | {"payload_bytes_max", "outbox_bytes_max"} | {limit.name for limit in fields(Limits)}
    assert sorted(named) == sorted(bounds - {"overload_spread_s"})
    codes = {code for cells in rows for code in re.findall(r"`([a-z_]+)`", cells[2])}
    assert codes <= {str(code) for code in Code}


def test_every_metric_is_documented() -> None:
    telemetry = Telemetry()
    telemetry.watch(TransportCounters())
    metrics = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric.type
        for metric in telemetry.registry.collect()
    }
    row = re.compile(r"^\| `(syncline_[a-z_]+)` \| (counter|gauge|histogram) \|", re.MULTILINE)
    assert dict(row.findall(OPERATIONS.read_text())) == metrics


def test_every_log_event_is_documented() -> None:
    logged = re.compile(r'(?:\blog\(\s*"[a-z]+", |\b_?log\.(?:info|warning|error|exception)\()\s*"([a-z_]+)"')
    events = {event for file in SOURCES.rglob("*.py") for event in logged.findall(file.read_text())}
    described = frozenset(re.findall(r"`([a-z_]+)`", OPERATIONS.read_text()))
    assert events
    assert sorted(events - described) == []
