"""The agent's loop: a frame, an answer, a count; at the end of each interval a report. It does no I/O of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from device_agent.classify import classify
from device_agent.contract.errors import LinesideError
from device_agent.frames import Frame, Frames, SourceEnded
from device_agent.rungs import Rungs, Serving
from device_agent.shadow import Understudy
from device_agent.station import NO_ARTIFACT, Station

WAKE_S = 0.25
SELF_TEST_S = 3600.0
MOST_FAILED = 3  # frames in a row without an answer before another artifact is tried


class Loop:
    """One run over the cameras of `stations`; `Frame.camera` is a place in them. `clock` is monotonic in ns, `stop` is
    asked and `tick` called at least four times a second; `busy` is called before a model is tested or loaded.
    `understudy` answers some frames too, while none waits."""

    def __init__(
        self,
        frames: Frames,
        rungs: Rungs,
        serving: Serving,
        stations: Sequence[Station],
        *,
        clock: Callable[[], int],
        event: Callable[[str, str], None],
        tick: Callable[[], None] = lambda: None,
        busy: Callable[[], None] = lambda: None,
        understudy: Understudy | None = None,
        self_test_s: float = SELF_TEST_S,
    ) -> None:
        self._frames, self._rungs, self._stations, self._event = frames, rungs, stations, event
        self._clock, self._tick, self._busy = clock, tick, busy
        self._understudy = understudy
        self._self_test_ns = int(self_test_s * 1e9)
        now_ns = clock()
        self._test_ns = now_ns + self._self_test_ns
        self._told_failed = False
        self._serve(serving)

    @property
    def serving(self) -> Serving:
        """What answers now; from any thread."""
        return self._serving

    def run(self, *, stop: Callable[[], bool], limit: int | None = None) -> int:
        """Frames answered until `stop()`, the end of the source, or `limit` frames; the open intervals are reported.

        Where no artifact is left that gives right answers, frames are dropped until one does again.
        """
        answered = 0
        try:
            while not stop() and answered != limit:
                self._tick()
                now_ns = self._clock()
                self._keep_time(now_ns)
                end_ns = min(station.end_ns for station in self._stations)
                idle = self._understudy is not None and self._understudy.ready(now_ns)
                frame = self._frames.next(0.0 if idle else min(WAKE_S, max(0.0, (end_ns - now_ns) / 1e9)))
                if frame is not None:
                    answered += self._answer(frame, self._stations[frame.camera])
                elif idle and self._understudy is not None:
                    self._understudy.work()
        except SourceEnded:
            return answered
        finally:
            now_ns = self._clock()
            for station in self._stations:
                station.report(now_ns)
        return answered

    def _keep_time(self, now_ns: int) -> None:
        for station in self._stations:
            if now_ns >= station.end_ns:
                self._told_failed = False
                station.keep_time(now_ns)
        if now_ns >= self._test_ns:
            self.self_test()
        self._change(self._rungs.probe())

    def self_test(self) -> str:
        """Compare the golden answers now; what serves may change. A sentence for a person."""
        self._test_ns = self._clock() + self._self_test_ns
        before = self._serving
        if not before.answers:
            return NO_ARTIFACT
        self._busy()
        for station in self._stations:
            station.tested(good=False)
        serving = self._rungs.check(before)
        if serving is before:
            for station in self._stations:
                station.tested(good=True)
            return f"{before.name} gives its golden answers"
        self._change(serving)
        return f"{before.name} does not give its golden answers; {serving.name} serves"

    def _answer(self, frame: Frame, station: Station) -> bool:
        serving = self._serving
        if not serving.answers:
            station.unanswered(frame, NO_ARTIFACT)
            return False
        station.begin(frame)
        started_ns = self._clock()
        try:
            tensor = serving.runtime.encode(frame.image)
            encoded_ns = self._clock()
            logits = serving.runtime.invoke(tensor)
            inferred_ns = self._clock()
            answer = classify(np.asarray(logits, np.float32), serving.artifact.temperature)
        except LinesideError as error:
            station.unanswered(frame, str(error))
            self._doubt(serving, str(error))
            return False
        self._failed = 0
        stages_us = (
            frame.capture_us,
            frame.preprocess_us + (encoded_ns - started_ns) / 1e3,
            (inferred_ns - encoded_ns) / 1e3,
            (self._clock() - inferred_ns) / 1e3,
        )
        station.answered(frame, answer, logits, stages_us)
        return True

    def _doubt(self, serving: Serving, fault: str) -> None:
        """A frame got no answer: the artifact serves on if it gives its golden answers, unless it fails too often."""
        self._failed += 1
        fault = f"{serving.name}: {fault}"
        if not self._told_failed:
            self._told_failed = True
            self._event("infer_failed", fault)
        if self._failed < MOST_FAILED:
            self.self_test()
        else:
            self._busy()
            self._change(self._rungs.descend(fault))

    def _change(self, serving: Serving) -> None:
        """Let another artifact answer: what was counted belongs to the one before."""
        if serving is not self._serving:
            self._serve(serving)
            self._frames.refit(serving.artifact.input)

    def _serve(self, serving: Serving) -> None:
        self._serving, self._failed = serving, 0
        if self._understudy is not None:
            self._understudy.follow(serving.artifact)
        now_ns = self._clock()
        for station in self._stations:
            station.serve(serving, now_ns)
