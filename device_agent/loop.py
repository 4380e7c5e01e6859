"""The agent's loop: a frame, an answer, a count; at the end of each interval a report. It does no I/O of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from device_agent.classify import Prediction, classify
from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import InputSpec, Label
from device_agent.contract.report import DeviceReport
from device_agent.contract.review import Verdict
from device_agent.decide import decide
from device_agent.frames import Frame, SourceEnded
from device_agent.recorder import Recorder, Surroundings
from device_agent.rungs import Rungs, Serving

WAKE_S = 0.25
SELF_TEST_S = 3600.0
MOST_FAILED = 3  # frames in a row without an answer before another artifact is tried


class Frames(Protocol):
    """Where fitted frames come from: `capture.Capture`, or a fake."""

    def next(self, timeout_s: float) -> Frame | None:
        """A frame, None when none came within the time; raises SourceEnded."""
        ...

    def refit(self, spec: InputSpec) -> None:
        """Deliver frames for another input."""
        ...


class Schedule(NamedTuple):
    """When intervals end: at `phase_ns` and then every `interval_ns`, on the monotonic clock."""

    interval_ns: int
    phase_ns: int = 0

    def end_after(self, now_ns: int) -> int:
        """End of an interval that begins now: between half an interval and one and a half away.

        >>> Schedule(60, 7).end_after(100), Schedule(60, 7).end_after(67), Schedule(60, 7).end_after(65)
        (187, 127, 127)
        """
        earliest = now_ns + self.interval_ns // 2
        return earliest + (self.phase_ns - earliest) % self.interval_ns


class Outlets(NamedTuple):
    """Where results go. `publish` takes each report, `verdict` each answer, `serves` hears which artifact answers."""

    publish: Callable[[DeviceReport], None]
    serves: Callable[[Serving], None]
    event: Callable[[str, str], None]
    verdict: Callable[[Verdict], None] | None = None


class Loop:
    """One run. `clock` is monotonic in ns, `stop` is asked at least four times a second."""

    def __init__(
        self,
        frames: Frames,
        rungs: Rungs,
        serving: Serving,
        labels: list[Label],
        outlets: Outlets,
        *,
        clock: Callable[[], int],
        around: Callable[[], Surroundings],
        schedule: Schedule,
        self_test_s: float = SELF_TEST_S,
    ) -> None:
        self._frames, self._rungs, self._labels, self._out = frames, rungs, labels, outlets
        self._clock, self._around, self._schedule = clock, around, schedule
        self._self_test_ns = int(self_test_s * 1e9)
        now_ns = clock()
        self._end_ns = schedule.end_after(now_ns)
        self._test_ns = now_ns + self._self_test_ns
        self._offset_ms: int | None = None
        self._told_failed = False
        self._serve(serving, now_ns)

    def _serve(self, serving: Serving, now_ns: int) -> None:
        self._serving, self._failed = serving, 0
        model, classes = serving.artifact.model_id, len(self._labels)
        self._recorder = Recorder(model, classes, now_ns, degraded=serving.degraded)
        self._recorder.self_test_ok = serving.answers
        self._out.serves(serving)

    def run(self, *, stop: Callable[[], bool], limit: int | None = None) -> int:
        """Frames answered until `stop()`, the end of the source, or `limit` frames; the open interval is reported.

        Where no artifact is left that gives right answers, frames are dropped until one does again.
        """
        answered = 0
        try:
            while not stop() and answered != limit:
                now_ns = self._clock()
                self._keep_time(now_ns)
                frame = self._frames.next(min(WAKE_S, max(0.0, (self._end_ns - now_ns) / 1e9)))
                if frame is not None:
                    answered += self._answer(frame)
        except SourceEnded:
            return answered
        finally:
            self._report(self._clock())
        return answered

    def _keep_time(self, now_ns: int) -> None:
        if now_ns >= self._end_ns:
            self._report(now_ns)
            self._end_ns = self._schedule.end_after(now_ns)
        if now_ns >= self._test_ns:
            self._test_ns = now_ns + self._self_test_ns
            self._self_test()
        self._change(self._rungs.probe())

    def _self_test(self) -> None:
        self._recorder.self_test_ok = False
        serving = self._rungs.check(self._serving)
        self._recorder.self_test_ok = serving.answers and serving is self._serving
        self._change(serving)

    def _answer(self, frame: Frame) -> bool:
        runtime, artifact = self._serving.runtime, self._serving.artifact
        if not self._serving.answers:
            self._recorder.drop(frame)
            return False
        started_ns = self._clock()
        try:
            tensor = runtime.encode(frame.image)
            encoded_ns = self._clock()
            logits = runtime.invoke(tensor)
            inferred_ns = self._clock()
            answer = classify(np.asarray(logits, np.float32), artifact.temperature)
        except LinesideError as error:
            self._recorder.drop(frame)
            self._doubt(f"{self._serving.name}: {error}")
            return False
        self._failed = 0
        if self._out.verdict is not None:
            self._out.verdict(self._verdict(frame, answer, logits))
        stages_us = (
            frame.capture_us,
            frame.preprocess_us + (encoded_ns - started_ns) / 1e3,
            (inferred_ns - encoded_ns) / 1e3,
            (self._clock() - inferred_ns) / 1e3,
        )
        self._recorder.add(frame, answer, stages_us)
        return True

    def _doubt(self, fault: str) -> None:
        """A frame got no answer: the artifact serves on if it gives its golden answers, unless it fails too often."""
        self._failed += 1
        if not self._told_failed:
            self._told_failed = True
            self._out.event("infer_failed", fault)
        if self._failed < MOST_FAILED:
            self._self_test()
        else:
            self._change(self._rungs.descend(fault))

    def _verdict(self, frame: Frame, answer: Prediction, logits: NDArray[np.floating]) -> Verdict:
        label, decision = self._labels[answer.label], self._serving.artifact.decision
        return Verdict(
            frame.stamp,
            label.name,
            label.role,
            answer.probability,
            answer.log_odds,
            frame.captured_ns // 1_000_000,
            decision=UNSET if decision is UNSET else decide(logits, decision, self._labels),
        )

    def _change(self, serving: Serving) -> None:
        """Let another artifact answer: what was counted belongs to the one before."""
        if serving is not self._serving:
            now_ns = self._clock()
            self._report(now_ns)
            self._serve(serving, now_ns)
            self._frames.refit(serving.artifact.input)

    def _report(self, now_ns: int) -> None:
        self._told_failed = False
        around = self._around()
        self._out.publish(self._recorder.close(now_ns, around))
        offset_ms = around.wall_ms - now_ns // 1_000_000
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > 1000:
            self._out.event("clock_step", f"the wall clock moved by {(offset_ms - self._offset_ms) / 1000:.1f} s")
        self._offset_ms = offset_ms
