"""What the store knows of a rollout: hours of its devices before and since, what they run, and who is heard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.detector.evalue import phi_of_pairs
from fleet.alert_store import read_alerts
from fleet.heartbeat import read_heard, read_heartbeat, say_trouble
from fleet.models import Model, read_models
from fleet.registry import read_devices
from fleet.rollouts.decision import Evidence
from fleet.rollouts.peers import Sight, Watch, own_rates
from fleet.rollouts.plan import Rollout
from fleet.schema import ROLLUP

HOUR_MS = 3_600_000
BEFORE_MS = 3 * 24 * HOUR_MS
CHUNK = 300
LOW_SHARE = 0.01


class Usual(NamedTuple):
    """What validation says of a model, on the line's shares of classes: events are frames in a bin under `edge`, and
    frames called a defect; `low` and `defects` are their shares, 0 to 1."""

    edge: int
    low: float
    defects: float
    roles: frozenset[int]


def usual_of(model: Model) -> Usual:
    """Events of a model that are watched.

    Raises:
        BadInput: it was never imported.
    """
    if model.baseline is None:
        raise BadInput(f"model {model.model}: was never imported; lineside-fleet models import BUNDLE")
    counts = model.baseline.dense().astype(np.float64)
    of_true = counts.sum(axis=(1, 2))
    shares = np.array(model.baseline.prevalence or of_true / of_true.sum())
    cells = (counts * (shares / np.maximum(of_true, 1))[:, None, None]).sum(axis=0)
    cells /= cells.sum()
    under = np.cumsum(cells.sum(axis=0))[:-1]
    edge = int(np.abs(under - LOW_SHARE).argmin()) + 1
    roles = frozenset(i for i, label in enumerate(model.labels) if label.role == "defect")
    return Usual(edge, float(max(under[edge - 1], 1e-5)), float(max(cells[sorted(roles)].sum(), 1e-5)), roles)


class _Row(NamedTuple):
    device: str
    start_ms: int
    model: str
    frames: int
    reports: int
    same: int
    cells: dict[int, int]

    def events(self, usual: Usual) -> tuple[int, int]:
        low = sum(count for cell, count in self.cells.items() if cell % BINS < usual.edge)
        defects = sum(count for cell, count in self.cells.items() if cell // BINS in usual.roles)
        return low, defects


def read_evidence(tx: Connection, rollout: Rollout, now_ms: int) -> Evidence:
    """What is known of a rollout at a time (wall-clock ms). Hours count once they are summed, ten minutes after their
    end.

    Raises:
        BadInput: a model of its bundles is not in the store.
    """
    if rollout.stage < 0:
        return Evidence()
    models, heard = read_models(tx), read_heard(tx, now_ms)
    if unknown := [one for one in rollout.models + rollout.old if one not in models]:
        raise BadInput(f"rollout {rollout.id}: no model {unknown[0]} in the store; lineside-fleet models import BUNDLE")
    usual = {one: usual_of(models[one]) for one in {*rollout.models, *rollout.old}}
    chosen = set(rollout.chosen)
    known = {one.device: one for one in read_devices(tx)}
    running = [
        name
        for name in chosen
        if name in known and known[name].model in rollout.models and known[name].health(heard) == "online"
    ]
    critical = [
        f"{alert.scope}: {alert.text}"
        for alert in read_alerts(tx)
        if alert.severity == "critical" and alert.stream == "golden" and alert.model in rollout.models
        and chosen & {alert.scope, *alert.devices}
    ]  # fmt: skip
    sites = {name: one.site for name, one in known.items()}
    found = judge(rollout, list(_rows(tx, rollout)), sites, usual)
    return found._replace(
        trouble=say_trouble(read_heartbeat(tx), now_ms), running=len(running), critical=tuple(critical)
    )


def _rows(tx: Connection, rollout: Rollout) -> Iterator[_Row]:
    names = [ROLLUP.c[name] for name in ("device", "start_ms", "model", "frames", "reports", "same", "cells")]
    devices = rollout.devices
    for first in range(0, len(devices), CHUNK):
        asked = select(*names).where(
            ROLLUP.c.device.in_(devices[first : first + CHUNK]),
            ROLLUP.c.span == "h",
            ROLLUP.c.start_ms >= rollout.started_ms - BEFORE_MS,
            ROLLUP.c.model.in_([*rollout.models, *rollout.old]),
        )
        for row in tx.execute(asked):
            cells = msgspec.msgpack.decode(row.cells, type=dict[int, int])
            yield _Row(row.device, row.start_ms, row.model, row.frames, row.reports, row.same, cells)


def judge(rollout: Rollout, rows: list[_Row], sites: Mapping[str, str], usual: Mapping[str, Usual]) -> Evidence:
    """Independent frames and hours since the wave began, and the bets against peers since the start."""
    devices = {name: number for number, name in enumerate(rollout.devices)}
    begun_ms = -(-rollout.started_ms // HOUR_MS) * HOUR_MS
    stage_ms = -(-rollout.stage_ms // HOUR_MS) * HOUR_MS
    before = [row for row in rows if row.start_ms < begun_ms - HOUR_MS and row.model in rollout.old]
    rho = _rho(rows, devices)
    ratio = _own(before, devices, usual, rho)
    places = sorted({sites.get(name, "") for name in devices})
    site = np.array([places.index(sites.get(name, "")) for name in devices])
    chosen = set(rollout.chosen)
    since: dict[int, dict[str, _Row]] = defaultdict(dict)
    for row in rows:
        new = row.model in rollout.models
        if row.start_ms >= begun_ms and (row.device in chosen or not new):
            held = since[row.start_ms].get(row.device)
            if held is None or new:
                since[row.start_ms][row.device] = row
    watch, worth, hours = Watch(len(devices), 3), 0.0, 0
    for start_ms in sorted(since):
        sights, canary = _sights(list(since[start_ms].values()), rollout, devices, usual, ratio)
        watch.add(sights, rho, site, canary)
        if start_ms >= stage_ms:
            worth += float((sights[0].frames * (1 - rho) / (1 + rho))[canary].sum())
            hours += int(canary.sum()) >= rollout.terms.reporting * len(chosen)
    return Evidence(independent=worth, hours=hours, log_e=watch.highest)


def _sights(
    rows: list[_Row],
    rollout: Rollout,
    devices: Mapping[str, int],
    usual: Mapping[str, Usual],
    ratio: NDArray[np.float64],
) -> tuple[list[Sight], NDArray[np.bool_]]:
    """Low confidence that rises, and calls of defects that rise or fall, of one hour; `ratio` is (3, devices)."""
    frames, low, defects = np.zeros((3, len(devices)))
    rate, canary = np.full((2, len(devices)), 1e-5), np.zeros(len(devices), bool)
    for row in rows:
        where, known = devices[row.device], usual[row.model]
        events = row.events(known)
        frames[where] += row.frames
        low[where] += events[0]
        defects[where] += events[1]
        rate[:, where] = known.low, known.defects
        canary[where] = row.model in rollout.models
    return [
        Sight(frames, low, rate[0] * ratio[0], up=True),
        Sight(frames, defects, rate[1] * ratio[1], up=True),
        Sight(frames, defects, rate[1] * ratio[2], up=False),
    ], canary


def _rho(rows: list[_Row], devices: Mapping[str, int]) -> NDArray[np.float64]:
    """Probability that a frame is the one before it, of each device, (devices,)."""
    same, pairs = np.zeros((2, len(devices)))
    cells: list[dict[tuple[str, int], int]] = [defaultdict(int) for _ in devices]
    for row in rows:
        where = devices[row.device]
        same[where] += row.same
        pairs[where] += max(row.frames - row.reports, 0)
        for cell, count in row.cells.items():
            cells[where][row.model, cell] += count
    agree = np.array([_agree(one) for one in cells])
    phi = phi_of_pairs(same, pairs, agree)
    return np.asarray((phi - 1) / (phi + 1))


def _agree(cells: Mapping[tuple[str, int], int]) -> float:
    total = sum(cells.values())
    return sum((count / total) ** 2 for count in cells.values()) if total else 0.0


def _own(
    rows: list[_Row], devices: Mapping[str, int], usual: Mapping[str, Usual], rho: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A device's own rates over what validation says, (3, devices): low confidence and defects, two standard errors
    over what was seen, and defects two under it. Of a device that nobody has seen, 1."""
    due, seen = np.zeros((2, 2, len(devices)))
    for row in rows:
        where, known = devices[row.device], usual[row.model]
        due[:, where] += row.frames * known.low, row.frames * known.defects
        seen[:, where] += row.events(known)
    return own_rates(seen, due, rho)
