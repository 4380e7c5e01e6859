"""The detector over a whole fleet: which device is which row of which model, fed once with every report."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.detector import Detector, Reference, StreamSet, Verdicts, threshold, warn_threshold
from device_agent.detector.normal import LEARN_MS, Learning, needs_learning, normal
from fleet.ledger import Entry
from fleet.models import Model
from fleet.peers import SPARE, PeerGroups
from fleet.reading import LOW, STIRRING, Page, Reading, Readings, excess
from fleet.registry import SHORTEST_MS, Registry

WEEK_MS = 604_800_000
NEWS = 50
"""The dial is fitted again when one device in so many is new or reports at another pace; it moves with the logarithm
of both."""
Counts = NDArray[np.int64]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The dial, and times. `pages_a_week`: false pages a week for the whole fleet; `interval_ms`: between reports of a
    device whose birth was not heard; `clear_ms`: how long a rate is normal before a level clears."""

    pages_a_week: float = 1.0
    interval_ms: int = 60_000
    clear_ms: int = 6 * 3_600_000
    learn_ms: int = LEARN_MS


class Watch:
    """One model: its streams, the detector of all devices that run it, and their rows. `alone` is another one for some
    devices of each group, whose peers excuse nothing there: what a whole site shows would otherwise be seen by nobody.
    """

    def __init__(
        self,
        model: Model,
        chosen: StreamSet,
        normal_row: Reference,
        *,
        page: float,
        warn: float,
        own: dict[str, Reference] | None = None,
    ) -> None:
        self.model, self.streams, self.normal = model, chosen, normal_row
        self.detector = Detector(chosen, normal_row.take(np.zeros(0, np.intp)), page=page, warn=warn, compiled=True)
        self.rows: dict[str, int] = {}
        self.own: dict[str, Reference] = {} if own is None else own
        self.low = np.array([name in LOW for name in chosen.names])
        self.page = Page(model.model, chosen.names)
        self.alone = Watch(model, chosen, normal_row, page=page, warn=warn, own=self.own) if own is None else None

    def both(self) -> list[Watch]:
        """With peers, and alone."""
        return [self, self.alone] if self.alone else [self]

    def reset(self, device: str, reference: Reference | None = None) -> None:
        """Start a device from nothing, by another reference if one is given."""
        for one in self.both():
            if device in one.rows:
                row = one.rows[device]
                one.detector.reset(np.array([row], np.intp), reference)
                one.page.calm(row)

    def place(self, devices: list[str]) -> NDArray[np.intp]:
        """Rows (n,) of the devices; a new one starts from its own reference, or else from the model's."""
        fresh = [device for device in dict.fromkeys(devices) if device not in self.rows]
        if fresh:
            self.rows |= {device: row for row, device in enumerate(fresh, start=len(self.rows))}
            if (missing := len(self.rows) - len(self.detector)) > 0:
                missing += len(self.rows) // SPARE
                self.detector.grow(self.normal.repeat(missing))
                self.page.grow(missing)
            for device in fresh:
                if (own := self.own.get(device)) is not None:
                    self.detector.reset(np.array([self.rows[device]], np.intp), own)
        return np.array([self.rows[device] for device in devices], np.intp)


class DetectorFleet:
    """Detectors of all models, their peers, and the last reading of every device. `hot`: those of the devices that were
    fed last in whose reading there is anything to see."""

    def __init__(self, models: dict[str, Model], registry: Registry, settings: Settings) -> None:
        self.models, self.settings = models, settings
        self.learning: dict[str, Learning] = {}
        self.readings = Readings()
        self.hot: set[str] = set()
        self.watches: dict[str, Watch] = {}
        self._registry = registry
        self._useless: set[str] = set()
        self._peers: dict[tuple[str, ...], PeerGroups] = {}
        self._classes: dict[bytes, int] = {}
        self.page_at, self.warn_at = 0.0, 0.0
        self.set_threshold()

    def set_threshold(self) -> None:
        """Fit the scores that warn and page to the number of devices and of their reports a week."""
        self._revision = self._registry.revision
        default_ms = self.settings.interval_ms
        intervals = [d.interval_ms or default_ms for d in self._registry.devices.values() if d.model] or [default_ms]
        windows = WEEK_MS / np.maximum(intervals, SHORTEST_MS)
        a_week, usual, self._devices = float(windows.mean()), float(np.median(windows)), len(windows)
        self.page_at = threshold(len(windows), a_week, self.settings.pages_a_week)
        self.warn_at = warn_threshold(self.page_at, a_week)
        for watch in self.watches.values():
            for one in watch.both():
                one.detector.page, one.detector.warn = self.page_at, self.warn_at
                one.detector.clear_windows = max(60, round(self.settings.clear_ms * usual / WEEK_MS))

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

    def renew(self, model: Model) -> list[str]:
        """Take up a model, or its new baseline; its devices, which start from nothing."""
        self.models[model.model] = model
        self._classes.pop(bytes.fromhex(model.model), None)
        watch = self.watches.pop(model.model, None)
        self._useless.discard(model.model)
        devices = [name for name in (watch.rows if watch else ()) if self._page(name) is watch.page]  # type: ignore[union-attr]
        for device in devices:
            self.forget(device)
        return devices

    def feed(self, entries: list[Entry]) -> list[str]:
        """Run new reports through the detector, each device's in order; sets their scores. Devices that were judged."""
        if (self._registry.revision - self._revision) * NEWS > self._devices:
            self.set_threshold()
        self.hot = set()
        judged: list[str] = []
        for turn in _turns([entry for entry in entries if self._readable(entry)]):
            by_model: dict[bytes, list[Entry]] = defaultdict(list)
            for entry in turn:
                by_model[entry.report.model].append(entry)
            parts = [
                (watch, _Part(watch, self._groups(watch), self._registry, part))
                for watch, part in self._watched(by_model)
            ]
            for watch, part in parts:
                part.observe(watch.detector)
            for watch, part in parts:
                self._judge(watch, part)
                judged += part.devices
        return judged

    def learn(self, entries: list[Entry]) -> tuple[set[str], list[str]]:
        """Count reports of models whose normal is not known yet. Models whose record moved, and devices that start from
        nothing, as their model's normal is known now."""
        moved: set[str] = set()
        renewed: list[str] = []
        for entry in entries:
            model = self.models.get(entry.report.model.hex())
            if (
                model is None
                or not needs_learning(model.labels, model.baseline)
                or entry.report.histogram.classes != len(model.labels)
            ):
                continue
            learning = self.learning.setdefault(model.model, Learning(since_ms=entry.at_ms))
            if not learning.done:
                moved.add(model.model)
                if learning.add(entry.counts(), entry.at_ms, learn_ms=self.settings.learn_ms):
                    renewed += self.renew(model)
        return moved, renewed

    def forget(self, device: str) -> None:
        """Start a device from nothing: W, peers' sums and reading."""
        for watch in self.watches.values():
            if device in watch.rows:
                watch.reset(device)
                self._groups(watch).forget(device)

    def adopt(self, device: str, model: str, own: Reference | None) -> None:
        """Judge a device by its own reference of a model from now on, or by the model's again; from nothing."""
        watch = self.watch(model)
        if watch is None:
            return
        if own is None:
            watch.own.pop(device, None)
        else:
            watch.own[device] = own
        if device in watch.rows:
            watch.reset(device, watch.normal if own is None else own)
            self._groups(watch).forget(device)

    def state(self, device: str) -> tuple[str, bytes, bytes] | None:
        """Model, detector's and peers' memory of a device; None when it was never judged."""
        page = self._page(device)
        watch = self.watches.get(page.model) if page else None
        if watch is None or device not in watch.rows:
            return None
        return watch.model.model, watch.detector.state(watch.rows[device]), self._groups(watch).state(device)

    def state_alone(self, device: str) -> bytes | None:
        """The detector's memory of a device that is judged without its peers too."""
        page = self._page(device)
        watch = self.watches[page.model].alone if page and page.model in self.watches else None
        return watch.detector.state(watch.rows[device]) if watch and device in watch.rows else None

    def restore(self, memories: list[tuple[Reading, bytes, bytes, bytes | None]]) -> None:
        """Take up what `state` and `state_alone` gave; memory of another layout of the detector starts from nothing."""
        by_model: dict[str, list[tuple[Reading, bytes, bytes, bytes | None]]] = defaultdict(list)
        for memory in memories:
            by_model[memory[0].model].append(memory)
        for model_id, part in by_model.items():
            watch = self.watch(model_id)
            if watch is None:
                continue
            devices = [reading.device for reading, *_ in part]
            self._groups(watch).place(devices, [self._registry.get(device).group for device in devices])
            for row, (reading, state, peers, alone) in zip(watch.place(devices), part, strict=True):
                watch.page.put(int(row), reading)
                self.readings.place(reading.device, watch.page, int(row))
                try:
                    watch.detector.restore(int(row), state)
                    self._groups(watch).restore(reading.device, peers)
                    if alone is not None and watch.alone is not None:
                        self._restore_alone(watch.alone, reading, alone)
                except BadInput:
                    self.forget(reading.device)

    def _restore_alone(self, watch: Watch, reading: Reading, state: bytes) -> None:
        (row,) = watch.place([reading.device]).tolist()
        watch.detector.restore(row, state)
        if reading.alone is not None:
            watch.page.put(row, reading.alone)
        self.readings.place_alone(reading.device, watch.page, row)

    def peer_groups(self) -> dict[str, PeerGroups]:
        """Peers by a name of the streams that they have in common, which is the same in every worker."""
        return {hashlib.sha256("\n".join(names).encode()).hexdigest(): one for names, one in self._peers.items()}

    def _page(self, device: str) -> Page | None:
        place = self.readings.of(device)
        return place[0] if place else None

    def _readable(self, entry: Entry) -> bool:
        classes = self._classes.get(entry.report.model)
        if classes is None:
            model = self.models.get(entry.report.model.hex())
            if model is None:
                return False
            classes = self._classes[entry.report.model] = len(model.labels)
        return entry.report.histogram.classes == classes

    def _watched(self, by_model: dict[bytes, list[Entry]]) -> Iterator[tuple[Watch, list[Entry]]]:
        for model_id, part in by_model.items():
            watch = self.watch(model_id.hex())
            if watch is not None:
                yield watch, part

    def _groups(self, watch: Watch) -> PeerGroups:
        groups = self._peers.get(watch.streams.names)
        if groups is None:
            groups = self._peers[watch.streams.names] = PeerGroups(watch.streams)
        return groups

    def _judge(self, watch: Watch, part: _Part) -> None:
        found = part.judge(watch.detector)
        for entry, score in zip(part.entries, found.score.tolist(), strict=True):
            entry.score = score
        speaks = np.array([device.model == watch.model.model for device in part.known])
        peers = part.groups.count(part.peer_rows)
        self._note(watch, part.entries, part.rows, found, peers=peers, frozen=found.frozen, speaks=speaks)
        for device, row, speaker in zip(part.devices, part.rows.tolist(), speaks.tolist(), strict=True):
            if speaker:
                self.readings.place(device, watch.page, row)
        if watch.alone is not None:
            self._judge_alone(watch.alone, part, speaks)

    def _judge_alone(self, alone: Watch, part: _Part, speaks: NDArray[np.bool_]) -> None:
        """Judge the sentinels among the devices of this part once more, by what they alone show."""
        sentinels = frozenset[str]().union(*map(self._registry.sentinels, set(part.places)))
        at = np.array([k for k, name in enumerate(part.devices) if name in sentinels], np.intp)
        if not len(at):
            return
        entries = [part.entries[k] for k in at.tolist()]
        rows = alone.place([entry.device for entry in entries])
        found = alone.detector.update(rows, part.cells[at], part.frames[at], part.same[at], part.identical[at])
        none = np.zeros(len(at), np.int64)
        self._note(alone, entries, rows, found, peers=none, frozen=none, speaks=speaks[at])
        for entry, row in zip(entries, rows.tolist(), strict=True):
            self.readings.place_alone(entry.device, alone.page, row)

    def _note(
        self,
        watch: Watch,
        entries: list[Entry],
        rows: NDArray[np.intp],
        found: Verdicts,
        *,
        peers: Counts,
        frozen: NDArray[np.generic],
        speaks: NDArray[np.bool_],
    ) -> None:
        """Write down what was found as readings, of devices that speak for this model."""
        top, each = found.stream, np.arange(len(rows))
        at_ms = np.array([entry.at_ms for entry in entries], np.int64)
        interval_ms = np.array([entry.report.interval_ms for entry in entries], np.int64)
        onset_ms = at_ms - (found.window - found.onset + 1) * np.maximum(interval_ms, 1)
        columns = {
            "at_ms": at_ms,
            "onset_ms": np.maximum(onset_ms, 0),
            "windows": found.window,
            "score": found.score,
            "warn_at": self.warn_at,
            "page_at": self.page_at,
            "log_e": found.log_e[each, top],
            "ratio": found.ratio,
            "ratio_low": found.ratio_low,
            "ratio_high": found.ratio_high,
            "excess": excess(watch.low[top], watch.detector.reference.one(rows, top)[0], found.ratio_low),
            "independent": found.independent,
            "peers": peers,
            "stream": top,
            "level": found.warn.astype(np.int8) + found.page,
            "frozen": frozen,
            "armed": watch.detector.reference.column("armed", rows),
        }
        for name, values in columns.items():
            watch.page.rows[name][rows[speaks]] = values[speaks] if isinstance(values, np.ndarray) else values
        hot = (found.score >= STIRRING) | found.warn | (np.asarray(frozen) != 0)
        self.hot.update(entries[at].device for at in np.flatnonzero(hot & speaks))


class _Part:
    """Reports of one model, one of each device: their rows, and their counts as arrays."""

    def __init__(self, watch: Watch, groups: PeerGroups, registry: Registry, entries: list[Entry]) -> None:
        self.entries, self.groups = entries, groups
        self.devices = [entry.device for entry in entries]
        self.known = [registry.get(device) for device in self.devices]
        self.places = [device.group for device in self.known]
        self.rows = watch.place(self.devices)
        self.peer_rows = groups.place(self.devices, self.places)
        self.cells = dense([entry.cells for entry in entries], watch.streams.masks.shape[1])
        self.frames = self.cells.sum(axis=1)
        self.same = np.array([entry.same for entry in entries], np.int64)
        self.identical = np.array([entry.identical for entry in entries], np.int64)

    def observe(self, detector: Detector) -> None:
        """Add what these reports show to what their peers know."""
        seen, expected, phi = detector.tally(self.rows, self.cells, self.frames, self.same)
        self.groups.observe(self.peer_rows, seen, expected, phi)

    def judge(self, detector: Detector) -> Verdicts:
        """What the detector makes of them."""
        factor = self.groups.factor(self.peer_rows)
        return detector.update(self.rows, self.cells, self.frames, self.same, self.identical, factor)


def dense(sparse: list[list[int]], cells: int) -> Counts:
    """Counts (n, cells) int64 of n flat lists cell, count, ...

    >>> dense([[0, 3, 2, 1], [], [1, 5]], 3).tolist()
    [[3, 0, 1], [0, 0, 0], [0, 5, 0]]
    """
    out = np.zeros((len(sparse), cells), np.int64)
    lengths = np.fromiter(map(len, sparse), np.int64, len(sparse))
    pairs = np.fromiter(chain.from_iterable(sparse), np.int64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(sparse)), lengths // 2)
    out[rows, pairs[::2]] = pairs[1::2]
    return out


def _turns(entries: list[Entry]) -> Iterator[list[Entry]]:
    """The first report of every device, then the second of every device that has one, and so on."""
    if len({entry.device for entry in entries}) == len(entries):
        if entries:
            yield entries
        return
    queues: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        queues[entry.device].append(entry)
    for turn in range(max(map(len, queues.values()))):
        yield [queue[turn] for queue in queues.values() if turn < len(queue)]
