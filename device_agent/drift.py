"""The local breaker: the fleet's own detector on the device's own reports, for lines that cannot wait for a person."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import Baseline, Label
from device_agent.contract.report import DeviceReport
from device_agent.detector import Detector, StreamSet, Verdicts, threshold, warn_threshold
from device_agent.detector.normal import LEARN_MS, Learning, needs_learning, normal

WEEKS_A_YEAR = 52.0
WEEK_MS = 604_800_000
SAVE_MS = 600_000
_ROW = np.zeros(1, np.intp)
Event = Callable[[str, str], None]


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table [breaker]. `on_drift`: "report" says so only, "safe" tells the line what is safe until the drift is over or
    a person resets the breaker. `false_stops_a_year`: how often a healthy camera may be taken for a drifting one."""

    on_drift: Literal["report", "safe"] = "report"
    false_stops_a_year: Annotated[float, Meta(ge=1e-6, le=1000)] = 0.1


class _Memory(msgspec.Struct, kw_only=True):
    """What is kept of one model over a restart: its first day, and the detector's memory."""

    schema: str = "1.0"
    learning: Learning
    learnt_ms: int = 0
    detector: str = ""
    level: int = 0


class _Model:
    """The detector of one model on this device."""

    def __init__(self, labels: Sequence[Label], baseline: Baseline, memory: _Memory | None, page: float) -> None:
        self.labels, self.baseline, self._page = labels, baseline, page
        self.memory = memory or _Memory(learning=Learning(since_ms=0))
        self._begin()
        if self.detector is not None and self.memory.detector:
            try:
                self.detector.restore(0, base64.b64decode(self.memory.detector))
            except (BadInput, ValueError):  # of another version: it starts from nothing
                self.memory.level = 0

    def _begin(self) -> None:
        known = normal(self.labels, self.baseline, self.memory.learning)
        self.streams: StreamSet | None = known[0] if known else None
        self.detector = Detector(*known, page=self._page) if known else None

    def feed(self, report: DeviceReport) -> Verdicts | None:
        counts = report.histogram.dense()
        learning = self.memory.learning
        if needs_learning(self.labels, self.baseline) and not learning.done:
            self.memory.learnt_ms += report.interval_ms
            if learning.add(counts, self.memory.learnt_ms, learn_ms=LEARN_MS):
                self._begin()
        if self.detector is None or not report.frames:
            return None
        figures = (np.array([number]) for number in (report.frames, report.same, report.identical))
        return self.detector.update(_ROW, counts.reshape(1, -1), *figures)

    def remember(self, level: int) -> bytes:
        self.memory.level = level
        if self.detector is not None:
            self.memory.detector = base64.b64encode(self.detector.state(0)).decode()
        return msgspec.json.encode(self.memory)

    def page_at(self, page: float) -> None:
        self._page = page
        if self.detector is not None:
            self.detector.page, self.detector.warn = page, warn_threshold(page)

    def forget(self) -> None:
        if self.detector is not None:
            self.detector.reset(_ROW)


class DriftWatch:
    """The detector on one camera's reports. `fault` may be read from any thread; the rest is for the loop's.

    Args:
        labels: of the bundle.
        baselines: of each artifact, by its model id.
        folder: where its memory lies.
        event: hears of drift_warn, drift_page, drift_over and camera_frozen, once for each change.
        interval_ms: between reports.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        baselines: Mapping[bytes, Baseline],
        settings: BreakerSettings,
        folder: Path,
        event: Event,
        *,
        interval_ms: int = 60_000,
    ) -> None:
        self._labels, self._baselines, self._settings = labels, baselines, settings
        self._folder, self._event = folder, event
        self._page = self._threshold(interval_ms)
        self._models: dict[bytes, _Model | None] = {}
        self._now: bytes | None = None
        self._level, self._frozen, self._unsaved_ms = 0, False, 0
        self._writer: threading.Thread | None = None
        self.fault = ""

    def serves(self, model_id: bytes) -> None:
        """Another model answers from now on: what is known of it counts."""
        self._save()
        model = self._model(model_id)
        self._now, self._frozen = model_id, False
        self._level = model.memory.level if model else 0
        self._judge("drift, found before this start" if self._level == 2 else "another model answers")

    def feed(self, report: DeviceReport) -> None:
        """Take in the report of an interval that has ended."""
        model = self._models.get(report.model)
        if model is None or report.model != self._now:
            return
        found = model.feed(report)
        if found is not None:
            self._hear(model, found)
        self._unsaved_ms += report.interval_ms
        if self._unsaved_ms >= SAVE_MS:
            self._save()

    def _threshold(self, interval_ms: int) -> float:
        return threshold(1, WEEK_MS / max(interval_ms, 1), self._settings.false_stops_a_year / WEEKS_A_YEAR)

    def retime(self, interval_ms: int) -> None:
        """Reports come at another interval from now on: there are more chances to be wrong, or fewer."""
        self._page = self._threshold(interval_ms)
        for model in self._models.values():
            if model is not None:
                model.page_at(self._page)

    def obey(self, on_drift: Literal["report", "safe"]) -> None:
        """Do something else about drift from now on."""
        self._settings = msgspec.structs.replace(self._settings, on_drift=on_drift)
        self._judge(f"on_drift is {on_drift} now")

    def reset(self) -> str:
        """Start from nothing, as after a change of lamp or product that is meant. A sentence for a person."""
        for model in self._models.values():
            if model is not None:
                model.forget()
        before, self._level, self._frozen = self._level, 0, False
        self._judge("")
        self._save()
        return "was open, and is closed" if before == 2 else "was closed; the detector starts from nothing"

    def close(self) -> None:
        """Keep what is known."""
        self._settle()
        self._save()
        self._settle()

    def _settle(self) -> None:
        if self._writer is not None:
            self._writer.join(5.0)

    def _model(self, model_id: bytes) -> _Model | None:
        if model_id not in self._models:
            made: _Model | None = None
            try:
                if (baseline := self._baselines.get(model_id)) is not None:
                    made = _Model(self._labels, baseline, self._read(model_id), self._page)
            except BadInput as error:  # a baseline that cannot tell anything
                self._event("drift_unwatched", str(error))
            self._models[model_id] = made
        return self._models[model_id]

    def _hear(self, model: _Model, found: Verdicts) -> None:
        level, frozen = int(found.warn[0]) + int(found.page[0]), bool(found.frozen[0])
        if level != self._level:
            kind = ("drift_over", "drift_warn", "drift_page")[level]
            said = _words(model.streams, found) if level else "rates are normal again"
            self._level = level
            self._event(kind, said)
            self._judge(said)
            self._save()
        if frozen != self._frozen:
            self._frozen = frozen
            said = f"the camera's pictures {'are all the same' if frozen else 'differ again'}"
            self._event("camera_frozen", said)
            self._judge(said)

    def _judge(self, said: str) -> None:
        stop = self._settings.on_drift == "safe" and (self._level == 2 or self._frozen)
        if stop != bool(self.fault):
            self.fault = said if stop else ""
            self._event("breaker_open" if stop else "breaker_closed", said or "reset")

    def _path(self, model_id: bytes) -> Path:
        return self._folder / f"drift-{model_id.hex()}.json"

    def _read(self, model_id: bytes) -> _Memory | None:
        try:
            return read_document_file(self._path(model_id), _Memory)
        except BadInput as error:
            self._event("drift_unread", f"{error}; the detector starts from nothing")
            return None

    def _save(self) -> None:
        """In a thread of its own: the loop waits for no disk."""
        model = self._models.get(self._now) if self._now is not None else None
        if model is None or self._now is None or (self._writer is not None and self._writer.is_alive()):
            return
        self._unsaved_ms = 0
        content, path = model.remember(self._level), self._path(self._now)
        self._writer = threading.Thread(target=self._write, args=(path, content), name="breaker", daemon=True)
        self._writer.start()

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except NotWritable:  # the spool says so of the same disk
            return


def _words(streams: StreamSet | None, found: Verdicts) -> str:
    stream = streams.names[int(found.stream[0])] if streams else "?"
    ratio, low, high = float(found.ratio[0]), float(found.ratio_low[0]), float(found.ratio_high[0])
    return f"{stream}: {ratio:.2g} times the expected rate ({low:.2g} to {high:.2g}), score {float(found.score[0]):.1f}"
