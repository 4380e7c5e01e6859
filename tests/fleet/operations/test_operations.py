"""Metrics, health and the listener that shows them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_agent.contract.errors import BadInput
from fleet.operations.census import Census, take_census
from fleet.operations.health import TURN_S, Pulse
from fleet.operations.listener import listening, parse_listen, respond
from fleet.operations.metrics import CENSUS_S, FleetCollector, Turn, WorkerMetrics
from fleet.schema import DEVICE
from fleet.store import open_store, upsert

MINUTE_MS, NOW_MS = 60_000, 1_790_000_000_000
CENSUS = Census(
    devices={"reporting": 7}, alerts={"page": 1}, reports=70, frames=700, missing=2, quarantined=1, beat_age_s=1.5
)


class Clock:
    """Seconds that pass when told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def read(text: bytes) -> dict[str, float]:
    """Samples by name and labels."""
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    return {
        name + "".join(f",{k}={v}" for k, v in sorted(labels.items())): value for name, labels, value, *_ in samples
    }


def test_what_a_worker_does_adds_up():
    metrics = WorkerMetrics()
    metrics.turned(Turn(stored=5, repeated=1, acks=2, lag_s=0.3, spent_s=0.04, waiting=9, connected=True, shards=64))
    metrics.turned(Turn(stored=2, rejected=3, changes=(("opened", "page"),), lag_s=4.0, spent_s=0.04, connected=True))
    found = read(metrics.exposition())
    assert found["lineside_worker_reports_total,result=stored"] == 7
    assert found["lineside_worker_reports_total,result=repeated"] == 1
    assert (found["lineside_worker_rejected_total"], found["lineside_worker_acks_total"]) == (3, 2)
    assert found["lineside_worker_alert_changes_total,change=opened,severity=page"] == 1
    assert found["lineside_worker_lag_seconds_bucket,le=0.5"] == 1
    assert found["lineside_worker_lag_seconds_count"] == 2
    assert (found["lineside_worker_waiting_messages"], found["lineside_worker_shards"]) == (0, 0)
    assert found["lineside_worker_broker_connected"] == 1


def test_a_turn_without_messages_is_no_batch_and_one_that_failed_is():
    metrics = WorkerMetrics()
    metrics.turned(Turn(connected=True))
    metrics.turned(Turn(failing=True))
    found = read(metrics.exposition())
    assert found["lineside_worker_batches_total,outcome=failed"] == 1
    assert "lineside_worker_batches_total,outcome=stored" not in found
    assert (found["lineside_worker_store_failing"], found["lineside_worker_lag_seconds_count"]) == (1, 0)


def test_the_census_is_taken_when_asked_for_and_at_most_every_ten_seconds():
    asked, clock, metrics = [], Clock(), WorkerMetrics()
    metrics.registry.register(FleetCollector(lambda: asked.append(1) or CENSUS, clock))
    assert not asked
    for _ in range(3):
        found = read(metrics.exposition())
    assert len(asked) == 1
    assert found["lineside_fleet_devices,state=reporting"] == 7
    assert found["lineside_fleet_alerts_open,severity=page"] == 1
    assert found["lineside_fleet_heartbeat_age_seconds"] == 1.5
    clock.now_s += CENSUS_S
    metrics.exposition()
    assert len(asked) == 2


def test_a_store_that_does_not_answer_gives_no_numbers_that_look_good():
    metrics = WorkerMetrics()
    metrics.registry.register(FleetCollector(lambda: None, Clock()))
    found = read(metrics.exposition())
    assert found["lineside_fleet_store_up"] == 0
    assert not [name for name in found if name.startswith("lineside_fleet_devices")]


def test_the_census_counts_devices_by_what_they_do(tmp_path: Path):
    engine = open_store(f"sqlite:///{tmp_path}/fleet.db", create=True)
    blank = {"site": "", "line": "", "product": "", "imported": False, "reports": 3, "frames": 30, "dropped": 0}
    ages = {"fresh": 100_000, "late": 4 * MINUTE_MS, "never": None, "daily": 2 * 86_400_000}
    rows = [
        {
            **blank,
            "device": name,
            "last_report_ms": None if age is None else NOW_MS - age,
            "interval_ms": 86_400_000 if name == "daily" else None,
        }
        for name, age in ages.items()
    ]
    with engine.begin() as tx:
        upsert(tx, DEVICE, rows)
    census = take_census(engine, NOW_MS)
    assert census is not None and census.devices == {"reporting": 2, "silent": 1, "never": 1}
    assert (census.reports, census.frames, census.beat_age_s) == (12, 120, None)
    engine.dispose()
    (tmp_path / "fleet.db").write_bytes(b"not a database, whatever it was before" * 100)
    assert take_census(engine, NOW_MS) is None


def test_health_is_lost_by_a_loop_that_hangs_and_readiness_by_what_it_needs():
    clock = Clock()
    pulse = Pulse(clock)
    pulse.turned(connected=True, failing=False)
    assert (pulse.health().alive, pulse.health().ready, pulse.health().why) == (True, True, "")
    pulse.turned(connected=False, failing=False)
    assert (pulse.health().ready, pulse.health().why) == (False, "the broker is not connected")
    pulse.turned(connected=True, failing=True)
    assert (pulse.health().alive, pulse.health().ready) == (True, False)
    clock.now_s += TURN_S + 1
    assert not pulse.health().alive and "no turn of the loop for 61 s" in pulse.health().why


def test_paths():
    pulse = Pulse(Clock())
    assert respond("/metrics?x=1", lambda: b"m", pulse.health).body == b"m"
    assert respond("/healthz", bytes, pulse.health).status == 200
    assert respond("/readyz", bytes, pulse.health).status == 503
    assert respond("/../etc/passwd", bytes, pulse.health).status == 404


def test_it_listens_while_the_block_runs():
    metrics, pulse = WorkerMetrics(), Pulse()
    with listening("127.0.0.1", 0, metrics.exposition, pulse.health) as (host, port):
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
            assert "lineside_worker_acks_total" in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=5)
        assert (error.value.code, json.load(error.value)["why"]) == (503, "the broker is not connected")
        with pytest.raises(BadInput, match="cannot listen"), listening(host, port, bytes, pulse.health):
            pass
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5)


@pytest.mark.parametrize("text", ["9109", ":9109", "host:", "host:99999", "host:-1", "host:٣"])
def test_an_address_that_is_none_is_refused(text: str):
    with pytest.raises(BadInput, match="must be HOST:PORT"):
        parse_listen(text)
