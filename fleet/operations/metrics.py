"""The monitor's metrics: a worker counts its own work; what the whole fleet is like is read from the store, by any
worker that is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from device_agent.contract.optional import require
from fleet.operations.census import Census, take_census

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric
    from sqlalchemy import Engine

LAG_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CENSUS_S = 10.0


class Turn(NamedTuple):
    """One turn of a worker: what it stored, found to be known already, set aside and acknowledged; `changes` are
    (what, severity) of alerts; `lag_s` from the arrival of the batch's first message until its commit, `spent_s` of
    work; `waiting` messages that came meanwhile; `shards` that the worker holds."""

    stored: int = 0
    repeated: int = 0
    rejected: int = 0
    acks: int = 0
    changes: tuple[tuple[str, str], ...] = ()
    lag_s: float = 0.0
    spent_s: float = 0.0
    waiting: int = 0
    connected: bool = False
    failing: bool = False
    shards: int = 0


class WorkerMetrics:
    """Counters, gauges and histograms of one worker, in a registry of their own.

    Raises:
        MissingPackage: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        client = require("prometheus_client", extra="fleet")
        self.registry: CollectorRegistry = client.CollectorRegistry()
        known = {"registry": self.registry, "namespace": "lineside", "subsystem": "worker"}
        self._reports = client.Counter("reports", "Reports taken in, by what became of them.", ["result"], **known)
        self._rejected = client.Counter("rejected", "Messages that could not be read.", **known)
        self._acks = client.Counter("acks", "Acknowledgements sent.", **known)
        self._changes = client.Counter("alert_changes", "Changes of alerts.", ["change", "severity"], **known)
        self._batches = client.Counter("batches", "Batches by how they ended.", ["outcome"], **known)
        self._lag = client.Histogram(
            "lag_seconds", "From the arrival of a batch's first message to its commit.", buckets=LAG_S, **known
        )
        self._spent = client.Histogram("batch_seconds", "Work on one batch.", buckets=BATCH_S, **known)
        self._waiting = client.Gauge("waiting_messages", "Messages that came and were not taken up yet.", **known)
        self._connected = client.Gauge("broker_connected", "1 while the broker is connected.", **known)
        self._failing = client.Gauge("store_failing", "1 while the last batch could not be stored.", **known)
        self._shards = client.Gauge("shards", "Shards of the fleet, of 64, that this worker holds.", **known)
        for result in ("stored", "repeated"):
            self._reports.labels(result)

    def turned(self, turn: Turn) -> None:
        """Take in a turn; from the worker's own thread."""
        self._waiting.set(turn.waiting)
        self._connected.set(turn.connected)
        self._failing.set(turn.failing)
        self._shards.set(turn.shards)
        if turn.failing:
            self._batches.labels("failed").inc()
        elif turn.stored or turn.repeated or turn.rejected:
            self._batches.labels("stored").inc()
            self._lag.observe(turn.lag_s)
            self._spent.observe(turn.spent_s)
        self._reports.labels("stored").inc(turn.stored)
        self._reports.labels("repeated").inc(turn.repeated)
        self._rejected.inc(turn.rejected)
        self._acks.inc(turn.acks)
        for what, severity in turn.changes:
            self._changes.labels(what, severity).inc()

    def add_fleet(self, engine: Engine, *, clock_ms: Callable[[], int]) -> None:
        """Tell of the whole fleet too, as its store has it, at most every 10 s anew."""
        self.registry.register(FleetCollector(lambda: take_census(engine, clock_ms())))

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


class FleetCollector:
    """Asks for the census when it is asked, and not more often than every 10 s; a store that fails gives no numbers."""

    def __init__(self, ask: Callable[[], Census | None], monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._monotonic_s = ask, monotonic_s
        self._asked_s = float("-inf")
        self._census: Census | None = None

    def collect(self) -> Iterator[Metric]:
        """The families, in the form of prometheus_client."""
        from prometheus_client.core import GaugeMetricFamily

        if self._monotonic_s() - self._asked_s >= CENSUS_S:
            self._asked_s, self._census = self._monotonic_s(), self._ask()
        yield GaugeMetricFamily("lineside_fleet_store_up", "1 while the store answers.", self._census is not None)
        if self._census is None:
            return
        for name, text, label, values in self._census.families():
            family = GaugeMetricFamily(f"lineside_fleet_{name}", text, labels=[label] if label else [])
            for value, count in values.items():
                family.add_metric([value] if label else [], count)
            yield family

    def describe(self) -> list[Metric]:
        """Nothing: so that registering asks nothing of the store."""
        return []
