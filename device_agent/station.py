"""One camera's place on the line: what its frames add up to, when that is reported, and whom its answers go to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from device_agent.classify import Prediction
from device_agent.contract.manifest import Label
from device_agent.contract.report import DeviceReport, Shadow
from device_agent.contract.review import Verdict
from device_agent.decide import decide
from device_agent.frames import Frame
from device_agent.recorder import Recorder, Surroundings
from device_agent.rungs import Serving

Stages = tuple[float, float, float, float]
"""Microseconds that a frame took in capture, preprocessing, inference and what follows."""
CLOCK_STEP_MS = 1000
NO_ARTIFACT = "no artifact answers"


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


class Line(Protocol):
    """Whom a camera's answers go to, see `outputs`. None of the calls waits or raises."""

    def expect(self, frame: int, captured_ns: int, part: int | None = None) -> None:
        """A frame is about to be answered: its deadline counts from its capture."""
        ...

    def put(self, verdict: Verdict) -> None:
        """The answer."""
        ...

    def no_verdict(self, frame: int, captured_ns: int, part: int | None, reason: str) -> None:
        """There is no answer; the line is told what is safe."""
        ...


class Judge(Protocol):
    """Looks at every report, see `drift.DriftWatch`: a sentence while the camera's answers cannot be trusted."""

    def serves(self, model_id: bytes) -> None:
        """Another model answers from now on."""
        ...

    def feed(self, report: DeviceReport) -> None:
        """Take in the report of an interval that has ended."""
        ...

    @property
    def fault(self) -> str:
        """Why the line must not rely on answers; empty while it may."""
        ...


class Keeper(Protocol):
    """Keeps some frames for review, see `samples`."""

    def offer(self, frame: Frame, answer: Prediction, *, model: bytes, decision: str = "") -> None:
        """A frame, its answer by a model and the part's fate, "" without one; returns at once."""
        ...


class Second(Protocol):
    """Has another model answer some frames too, see `shadow`."""

    def offer(self, frame: Frame, answer: Prediction) -> None:
        """A frame that was answered; returns at once."""
        ...

    def close_interval(self) -> Shadow | None:
        """What the other model said in the interval that ends, None if nothing; the next one begins."""
        ...


class Outlets(NamedTuple):
    """Where the results of a camera go. `publish` takes each report, `serves` hears which artifact answers, `seen` gets
    each answered frame with the part's fate, for those who look at the device."""

    publish: Callable[[DeviceReport], None]
    serves: Callable[[Serving], None]
    event: Callable[[str, str], None]
    line: Line | None = None
    judge: Judge | None = None
    keeper: Keeper | None = None
    seen: Callable[[Frame, Prediction, str | None, Stages], None] | None = None
    second: Second | None = None


class Station:
    """The books of one camera. `device` is its name in the fleet; `now_ns` is monotonic throughout."""

    def __init__(
        self,
        device: str,
        labels: list[Label],
        outlets: Outlets,
        *,
        around: Callable[[], Surroundings],
        schedule: Schedule,
    ) -> None:
        self.device, self._labels, self.out = device, labels, outlets
        self._around, self._schedule = around, schedule
        self._offset_ms: int | None = None
        self._serving: Serving | None = None
        self._recorder: Recorder | None = None
        self.end_ns = 0

    def serve(self, serving: Serving, now_ns: int) -> None:
        """Another artifact answers from now on, or none."""
        if self._recorder is not None:
            self.report(now_ns)
        else:
            self.end_ns = self._schedule.end_after(now_ns)
        self._serving = serving
        model, classes = serving.artifact.model_id, len(self._labels)
        after = self._recorder.stamp if self._recorder is not None else None
        self._recorder = Recorder(model, classes, now_ns, degraded=serving.degraded, after=after)
        self.tested(good=serving.answers)
        if self.out.judge is not None:
            self.out.judge.serves(model)
        self.out.serves(serving)

    def tested(self, *, good: bool) -> None:
        """The self-test's outcome, for the report of this interval."""
        if self._recorder is not None:
            self._recorder.self_test_ok = good

    def reschedule(self, schedule: Schedule, now_ns: int) -> None:
        """Report at other times from now on."""
        self._schedule = schedule
        self.end_ns = min(self.end_ns, schedule.end_after(now_ns))

    def keep_time(self, now_ns: int) -> None:
        """Report if the interval has ended."""
        if now_ns >= self.end_ns:
            self.report(now_ns)
            self.end_ns = self._schedule.end_after(now_ns)

    def begin(self, frame: Frame) -> None:
        """A frame is about to be answered."""
        if self.out.line is not None:
            self.out.line.expect(frame.stamp, frame.captured_ns, frame.part)

    def answered(self, frame: Frame, answer: Prediction, logits: NDArray[np.floating], begun: Stages) -> None:
        """Count an answer and hand it on; the fourth stage of `begun` is what it took before this."""
        assert self._recorder is not None and self._serving is not None
        fault = self.out.judge.fault if self.out.judge is not None else ""
        verdict = self._verdict(frame, answer, logits)
        if self.out.line is not None:
            if fault:
                self.out.line.no_verdict(frame.stamp, frame.captured_ns, frame.part, fault)
            else:
                self.out.line.put(verdict)
        fate = None if verdict.decision is UNSET else verdict.decision
        if self.out.keeper is not None:
            self.out.keeper.offer(frame, answer, model=self._serving.artifact.model_id, decision=fate or "")
        if self.out.seen is not None:
            self.out.seen(frame, answer, fate, begun)
        if self.out.second is not None:
            self.out.second.offer(frame, answer)
        self._recorder.add(frame, answer, begun)

    def unanswered(self, frame: Frame, reason: str) -> None:
        """Count a frame that got no answer, and tell the line what is safe."""
        if self._recorder is not None:
            self._recorder.drop(frame)
        if self.out.line is not None:
            self.out.line.no_verdict(frame.stamp, frame.captured_ns, frame.part, reason)

    def _verdict(self, frame: Frame, answer: Prediction, logits: NDArray[np.floating]) -> Verdict:
        assert self._serving is not None
        label, decision = self._labels[answer.label], self._serving.artifact.decision
        return Verdict(
            frame.stamp,
            label.name,
            label.role,
            answer.probability,
            answer.log_odds,
            frame.captured_ns // 1_000_000,
            part=UNSET if frame.part is None else frame.part,
            decision=UNSET if decision is UNSET else decide(logits, decision, self._labels),
        )

    def report(self, now_ns: int) -> None:
        """Close the interval and publish it."""
        if self._recorder is None:
            return
        around = self._around()
        report = self._recorder.close(now_ns, around)
        if self.out.second is not None:
            report = msgspec.structs.replace(report, shadow=self.out.second.close_interval())
        if self.out.judge is not None:
            self.out.judge.feed(report)
        self.out.publish(report)
        offset_ms = around.wall_ms - now_ns // 1_000_000
        if self._offset_ms is not None and abs(offset_ms - self._offset_ms) > CLOCK_STEP_MS:
            self.out.event("clock_step", f"the wall clock moved by {(offset_ms - self._offset_ms) / 1000:.1f} s")
        self._offset_ms = offset_ms
