"""The detector over a whole fleet: which device is which row of which model, fed once with every report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector import Detector, Reference, StreamSet, Verdicts, threshold, warn_threshold
from device_agent.detector.normal import LEARN_MS, Learning, needs_learning, normal
from fleet.ledger import Entry
from fleet.models import Model
from fleet.peers import PeerGroups
from fleet.reading import Reading, excess
from fleet.registry import Registry

WEEK_MS = 604_800_000
Counts = NDArray[np.int64]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The dial, and times. `pages_a_week`: false pages a week for the whole fleet; `interval_ms`: between reports of a
    device whose birth was not heard; `clear_ms`: how long a rate is normal before a level clears."""

    pages_a_week: float = 1.0
    interval_ms: int = 60_000
    clear_ms: int = 6 * 3_600_000
    learn_ms: int = LEARN_MS


class Watch:
    """One model: its streams, the detector of all devices that run it, and their rows."""

    def __init__(self, model: Model, chosen: StreamSet, normal_row: Reference, *, page: float, warn: float) -> None:
        self.model, self.streams, self.normal = model, chosen, normal_row
        self.detector = Detector(chosen, normal_row.take(np.zeros(0, np.intp)), page=page, warn=warn)
        self.rows: dict[str, int] = {}

    def place(self, devices: list[str]) -> NDArray[np.intp]:
        """Rows (n,) of the devices; a new one starts from the model's own reference."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self.rows]
        if fresh:
            self.rows |= {device: row for row, device in enumerate(fresh, start=len(self.rows))}
            self.detector.grow(self.normal.repeat(len(fresh)))
        return np.array([self.rows[device] for device in devices], np.intp)


class DetectorFleet:
    """Detectors of all models, their peers, and the last reading of every device."""

    def __init__(self, models: dict[str, Model], registry: Registry, settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.learning: dict[str, Learning] = {}
        self.readings: dict[str, Reading] = {}
        self.watches: dict[str, Watch] = {}
        self._registry = registry
        self._useless: set[str] = set()
        self._peers: dict[tuple[str, ...], PeerGroups] = {}
        self.page_at, self.warn_at = 0.0, 0.0
        self.set_threshold()

    def set_threshold(self) -> None:
        """Fit the scores that warn and page to the number of devices and of their reports a week."""
        self._revision = self._registry.revision
        intervals = [d.interval_ms or self.settings.interval_ms for d in self._registry.devices.values() if d.model]
        windows = [WEEK_MS / max(interval, 1) for interval in intervals] or [WEEK_MS / self.settings.interval_ms]
        a_week = sum(windows) / len(windows)
        self.page_at = threshold(len(windows), a_week, self.settings.pages_a_week)
        self.warn_at = warn_threshold(self.page_at, a_week)
        for watch in self.watches.values():
            watch.detector.page, watch.detector.warn = self.page_at, self.warn_at
            watch.detector.clear_windows = max(60, round(self.settings.clear_ms * a_week / WEEK_MS))

    def watch(self, model_id: str) -> Watch | None:
        """Detector of a model; None while nothing is known of it, or where its baseline is of no use."""
        if model_id not in self.watches and model_id in self.models and model_id not in self._useless:
            try:
                model = self.models[model_id]
                known = normal(model.labels, model.baseline, self.learning.get(model_id))
            except BadInput:
                self._useless.add(model_id)
                return None
            if known is not None:
                self.watches[model_id] = Watch(self.models[model_id], *known, page=self.page_at, warn=self.warn_at)
                self.set_threshold()
        return self.watches.get(model_id)

    def renew(self, model: Model) -> None:
        """Take up a model, or its new baseline; its devices start from nothing."""
        self.models[model.model] = model
        self.watches.pop(model.model, None)
        self._useless.discard(model.model)
        for device in [name for name, reading in self.readings.items() if reading.model == model.model]:
            self.forget(device)

    def feed(self, entries: list[Entry]) -> set[str]:
        """Run new reports through the detector, each device's in order; sets their scores. Devices that were judged."""
        if self._revision != self._registry.revision:
            self.set_threshold()
        judged: set[str] = set()
        for turn in _turns([entry for entry in entries if self._readable(entry)]):
            by_model: dict[str, list[Entry]] = defaultdict(list)
            for entry in turn:
                by_model[entry.report.model.hex()].append(entry)
            placed = [self._observe(watch, part) for watch, part in self._watched(by_model)]
            for (watch, part), (groups, peer_rows) in zip(list(self._watched(by_model)), placed, strict=True):
                self._judge(watch, part, groups, peer_rows)
                judged.update(entry.device for entry in part)
        return judged

    def learn(self, entries: list[Entry]) -> set[str]:
        """Count reports of models whose normal is not known yet. Models whose record moved."""
        moved: set[str] = set()
        for entry in entries:
            model = self.models.get(entry.report.model.hex())
            if (
                model is None
                or not needs_learning(model.labels, model.baseline)
                or len(entry.counts) != len(model.labels)
            ):
                continue
            learning = self.learning.setdefault(model.model, Learning(since_ms=entry.at_ms))
            if not learning.done:
                moved.add(model.model)
                if learning.add(entry.counts, entry.at_ms, learn_ms=self.settings.learn_ms):
                    self.renew(model)
        return moved

    def forget(self, device: str) -> None:
        """Start a device from nothing: W, peers' sums and reading."""
        reading = self.readings.pop(device, None)
        for watch in self.watches.values():
            if device in watch.rows:
                watch.detector.reset(np.array([watch.rows[device]], np.intp))
                self._groups(watch).forget(device)
        if reading:
            calm = msgspec.structs.replace(reading, score=0.0, level=0, frozen=False, log_e=0.0, independent=0.0)
            self.readings[device] = msgspec.structs.replace(calm, ratio=None, ratio_low=None, ratio_high=None)

    def state(self, device: str) -> tuple[str, bytes, bytes] | None:
        """Model, detector's and peers' memory of a device; None when it was never judged."""
        reading = self.readings.get(device)
        watch = self.watches.get(reading.model) if reading else None
        if watch is None or device not in watch.rows:
            return None
        return watch.model.model, watch.detector.state(watch.rows[device]), self._groups(watch).state(device)

    def restore(self, memories: list[tuple[Reading, bytes, bytes]]) -> None:
        """Take up what `state` gave; memory of another layout of the detector starts from nothing."""
        by_model: dict[str, list[tuple[Reading, bytes, bytes]]] = defaultdict(list)
        for memory in memories:
            by_model[memory[0].model].append(memory)
        for model_id, part in by_model.items():
            watch = self.watch(model_id)
            if watch is None:
                continue
            devices = [reading.device for reading, _, _ in part]
            self._place(watch, devices)
            for row, (reading, state, peers) in zip(watch.place(devices), part, strict=True):
                self.readings[reading.device] = reading
                try:
                    watch.detector.restore(int(row), state)
                    self._groups(watch).restore(reading.device, peers)
                except BadInput:
                    self.forget(reading.device)

    def _readable(self, entry: Entry) -> bool:
        model = self.models.get(entry.report.model.hex())
        return model is not None and len(entry.counts) == len(model.labels)

    def _watched(self, by_model: dict[str, list[Entry]]) -> Iterator[tuple[Watch, list[Entry]]]:
        for model_id, part in by_model.items():
            watch = self.watch(model_id)
            if watch is not None:
                yield watch, part

    def _groups(self, watch: Watch) -> PeerGroups:
        return self._peers.setdefault(watch.streams.names, PeerGroups(watch.streams))

    def _place(self, watch: Watch, devices: list[str]) -> NDArray[np.intp]:
        return self._groups(watch).place(devices, [self._registry.get(device).group for device in devices])

    def _observe(self, watch: Watch, part: list[Entry]) -> tuple[PeerGroups, NDArray[np.intp]]:
        devices = [entry.device for entry in part]
        rows, peer_rows = watch.place(devices), self._place(watch, devices)
        cells, frames, same, _ = _columns(part)
        groups = self._groups(watch)
        groups.observe(peer_rows, *watch.detector.tally(rows, cells, frames, same))
        return groups, peer_rows

    def _judge(self, watch: Watch, part: list[Entry], groups: PeerGroups, peer_rows: NDArray[np.intp]) -> None:
        rows = watch.place([entry.device for entry in part])
        verdicts = watch.detector.update(rows, *_columns(part), groups.factor(peer_rows))
        for at, (entry, peers) in enumerate(zip(part, groups.count(peer_rows), strict=True)):
            entry.score = float(verdicts.score[at])
            if self._registry.get(entry.device).model == watch.model.model:
                self.readings[entry.device] = self._reading(watch, entry, verdicts, at, int(peers), int(rows[at]))

    def _reading(self, watch: Watch, entry: Entry, verdicts: Verdicts, at: int, peers: int, row: int) -> Reading:
        stream = int(verdicts.stream[at])
        behind = int(verdicts.window[at] - verdicts.onset[at] + 1)
        return Reading(
            device=entry.device,
            model=watch.model.model,
            at_ms=entry.at_ms,
            score=float(verdicts.score[at]),
            warn_at=self.warn_at,
            page_at=self.page_at,
            level=int(verdicts.warn[at]) + int(verdicts.page[at]),
            frozen=bool(verdicts.frozen[at]),
            armed=bool(watch.detector.reference.armed[row]),
            stream=watch.streams.names[stream],
            onset_ms=max(entry.at_ms - behind * max(entry.report.interval_ms, 1), 0),
            log_e=float(verdicts.log_e[at, stream]),
            ratio=_number(verdicts.ratio[at]),
            ratio_low=_number(verdicts.ratio_low[at]),
            ratio_high=_number(verdicts.ratio_high[at]),
            independent=float(verdicts.independent[at]),
            peers=peers,
            windows=int(verdicts.window[at]),
            excess=excess(
                watch.streams.names[stream], watch.detector.reference.p0[row, stream], verdicts.ratio_low[at]
            ),
        )


def _columns(part: list[Entry]) -> tuple[Counts, Counts, Counts, Counts]:
    """Cells (n, classes * 24), frames, same-cell pairs and bit-equal pairs (n,) of entries of one model."""
    cells = np.array([entry.counts.ravel() for entry in part])
    same, identical = np.array([[entry.same, entry.identical] for entry in part]).T
    return cells, cells.sum(axis=1), same, identical


def _turns(entries: list[Entry]) -> Iterator[list[Entry]]:
    """The first report of every device, then the second of every device that has one, and so on."""
    queues: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        queues[entry.device].append(entry)
    for turn in range(max(map(len, queues.values()), default=0)):
        yield [queue[turn] for queue in queues.values() if turn < len(queue)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
