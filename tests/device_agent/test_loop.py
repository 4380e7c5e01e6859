"""The loop with fake frames, a fake runtime and a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET
from numpy.typing import NDArray

from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput, SelfTestFailed
from device_agent.contract.manifest import ArtifactManifest, Decision, InputSpec
from device_agent.contract.report import DEGRADED, DeviceReport
from device_agent.contract.review import Verdict
from device_agent.frames import Frame, SourceEnded
from device_agent.frames.surface import draw
from device_agent.loop import Loop
from device_agent.recorder import Surroundings
from device_agent.rungs import Rungs, Serving, choose, opener
from device_agent.runtimes import Runtime
from device_agent.runtimes.fenced import Fenced
from device_agent.station import Outlets, Schedule, Station
from device_agent.unpacking import unpack

MakeBundle = Callable[..., Path]


class Fed:
    """Frames out of a list, each `step_s` after the one before; None stands for a wait without a frame."""

    def __init__(self, frames: list[Frame | None], clock: Any, step_s: float) -> None:
        self._frames, self._clock, self._step_s = iter(frames), clock, step_s
        self.specs: list[InputSpec] = []

    def next(self, timeout_s: float) -> Frame | None:
        frame = next(self._frames, "end")
        if frame == "end":
            raise SourceEnded
        self._clock.pass_s(timeout_s if frame is None else self._step_s)
        return frame  # type: ignore[return-value]

    def refit(self, spec: InputSpec) -> None:
        self.specs.append(spec)


class Broken:
    """A runtime that works until it does not: after `good` invocations its logits are off by `off`, or it raises."""

    def __init__(self, inner: Runtime, good: int, *, raises: bool = False, off: float = 1.0) -> None:
        self.name, self.version, self.classes = inner.name, inner.version, inner.classes
        self._inner, self._good, self._raises, self._off, self.closed = inner, good, raises, off, False

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        return self._inner.encode(image)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        self._good -= 1
        if self._good < 0 and self._raises:
            raise BadInput("the delegate gave up")
        return self._inner.invoke(tensor) + np.float32(self._off if self._good < 0 else 0)

    def close(self) -> None:
        self.closed = True
        self._inner.close()


class Blind:
    """A runtime whose logits for a black frame are no numbers."""

    def __init__(self, inner: Runtime) -> None:
        self.name, self.version, self.classes = inner.name, inner.version, inner.classes
        self.close, self._inner, self._black = inner.close, inner, False

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        self._black = not image.any()
        return self._inner.encode(image)

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        return self._inner.invoke(tensor) + np.float32(np.nan if self._black else 0)


class Listed:
    """A line that keeps what it is told."""

    def __init__(self, verdicts: list[Verdict], unanswered: list[int]) -> None:
        self.put, self._unanswered, self.expected = verdicts.append, unanswered, list[int]()

    def expect(self, frame: int, captured_ns: int, part: int | None = None) -> None:
        self.expected.append(frame)

    def no_verdict(self, frame: int, captured_ns: int, part: int | None, reason: str) -> None:
        self._unanswered.append(frame)


class Run:
    """A loop whose every outlet is a list."""

    def __init__(
        self, path: Path, folder: Path, clock: Any, wrap: Callable[[Runtime, ArtifactManifest], Runtime] | None = None
    ) -> None:
        self.clock, self.reports, self.events = clock, list[DeviceReport](), list[str]()
        self.verdicts, self.serving, self.wall_ms = list[Verdict](), list[Serving](), 0
        self.texts = list[str]()
        self.unanswered = list[int]()
        self.line = Listed(self.verdicts, self.unanswered)
        self.bundle = read_bundle(path)
        plain = opener(unpack(read_bundle(path), folder), 1)

        def open_(artifact: ArtifactManifest) -> Runtime:
            return wrap(plain(artifact), artifact) if wrap else plain(artifact)

        artifacts = choose(self.bundle.manifest, None)
        self.rungs = Rungs(
            artifacts, self.bundle.golden, open_, self.event, clock=self.clock, beside=lambda work: work()
        )

    def event(self, kind: str, text: str) -> None:
        self.events.append(kind)
        self.texts.append(text)

    def loop(self, frames: list[Frame | None], *, step_s: float = 0.1, self_test_s: float = 3600.0) -> Loop:
        self.frames = Fed(frames, self.clock, step_s)
        station = Station(
            "press-1",
            self.bundle.manifest.labels,
            Outlets(self.reports.append, self.serving.append, self.event, self.line),
            around=lambda: Surroundings(self.wall_ms + self.clock.now_ns // 1_000_000),
            schedule=Schedule(1_000_000_000),
        )
        return Loop(
            self.frames,
            self.rungs,
            self.rungs.descend(),
            [station],
            clock=self.clock,
            event=self.event,
            self_test_s=self_test_s,
        )


def frames(count: int, black: Container[int] = ()) -> list[Frame | None]:
    rng = np.random.default_rng(2)
    return [Frame(draw(rng, "good", size=64) * np.uint8(k not in black), k, k) for k in range(count)]


@pytest.fixture
def start(make_bundle: MakeBundle, tmp_path: Path, clock: Any) -> Callable[..., Run]:
    def begin(wrap: Callable[[Runtime, ArtifactManifest], Runtime] | None = None, **kwargs: Any) -> Run:
        return Run(make_bundle(**kwargs), tmp_path / "unpacked", clock, wrap)

    return begin


def test_every_frame_is_in_one_report(start: Callable[..., Run]) -> None:
    run = start()
    assert run.loop(frames(35)).run(stop=lambda: False) == 35
    assert [report.frames for report in run.reports] == [10, 10, 10, 5]
    assert [report.interval_ms for report in run.reports] == [1000, 1000, 1000, 500]
    assert all(report.self_test_ok and not report.flags & DEGRADED for report in run.reports)
    assert len({verdict.label for verdict in run.verdicts}) >= 1 and len(run.verdicts) == 35
    assert {report.model for report in run.reports} == {run.serving[0].artifact.model_id}


def test_reports_go_on_without_frames(start: Callable[..., Run]) -> None:
    run = start()
    run.loop([None] * 10).run(stop=lambda: False)
    assert [report.frames for report in run.reports] == [0, 0, 0]


def test_stops_when_asked_and_reports_the_open_interval(start: Callable[..., Run]) -> None:
    run = start()
    assert run.loop(frames(35)).run(stop=lambda: len(run.verdicts) == 4) == 4
    assert [report.frames for report in run.reports] == [4]
    again = start()
    assert again.loop(frames(35)).run(stop=lambda: False, limit=7) == 7


def test_answers_are_calibrated_by_the_bundle(start: Callable[..., Run]) -> None:
    run = start()
    run.loop(frames(30)).run(stop=lambda: False)
    odds = [verdict.log_odds for verdict in run.verdicts]
    assert np.ptp(odds) > 0.01
    assert all(abs(1 / (1 + np.exp(-one.log_odds)) - one.probability) < 1e-9 for one in run.verdicts)


def test_each_verdict_says_what_becomes_of_the_part_where_the_bundle_decides(start: Callable[..., Run]) -> None:
    plain = start(classes=2)
    plain.loop(frames(30)).run(stop=lambda: False)
    assert {verdict.decision for verdict in plain.verdicts} == {UNSET}
    odds = [(1 if verdict.role == "defect" else -1) * verdict.log_odds for verdict in plain.verdicts]
    low, high = np.quantile(odds, [0.3, 0.7]).tolist()
    decision = Decision(low=low, high=high, scale=[1, 1], shift=[0, 0], prevalence=[0.9, 0.1], confidence=0.95)
    run = start(classes=2, decision=decision)
    run.loop(frames(30)).run(stop=lambda: False)
    fates = ["pass" if one < low else "reject" if one >= high else "review" for one in odds]
    assert [verdict.decision for verdict in run.verdicts] == fates
    assert len(set(fates)) == 3


def test_a_wrong_golden_answer_is_not_served(start: Callable[..., Run]) -> None:
    run = start(wrong=("fp32",))
    run.loop(frames(3)).run(stop=lambda: False)
    assert run.events == ["artifact_refused"]
    assert run.serving[0].name == "fake-int8" and run.reports[0].flags & DEGRADED


def test_none_left_is_exit_code_4(start: Callable[..., Run]) -> None:
    run = start(wrong=("fp32", "int8"))
    with pytest.raises(SelfTestFailed, match=r"off by 0\.5") as failed:
        run.loop(frames(3))
    assert failed.value.exit_code == 4


def test_a_runtime_that_goes_wrong_is_found_by_the_hourly_test(start: Callable[..., Run]) -> None:
    run = start(lambda inner, one: Broken(inner, 30) if one.precision == "fp32" else inner)
    run.loop(frames(60), step_s=0.1, self_test_s=3.0).run(stop=lambda: False)
    assert run.events == ["self_test_failed", "breaker_open"]
    assert [serving.name for serving in run.serving] == ["fake-fp32", "fake-int8"]
    models = [report.model for report in run.reports]
    assert models == sorted(models, key=models.index), "no report mixes two models"
    at = models.index(run.serving[1].artifact.model_id)
    assert [report.self_test_ok for report in run.reports[at - 1 : at + 1]] == [False, True]
    assert run.reports[at].flags & DEGRADED and not run.reports[at - 1].flags & DEGRADED
    assert sum(report.frames for report in run.reports) == 60


def test_a_runtime_that_raises_falls_back_at_once(start: Callable[..., Run]) -> None:
    run = start(lambda inner, one: Broken(inner, 20, raises=True) if one.precision == "fp32" else inner)
    assert run.loop(frames(40)).run(stop=lambda: False) == 39
    assert run.events == ["infer_failed", "self_test_failed", "breaker_open"]
    assert [sum(one.frames for one in run.reports), sum(one.dropped for one in run.reports)] == [39, 1]


def test_a_runtime_that_raises_in_the_hourly_test_falls_back(start: Callable[..., Run]) -> None:
    run = start(lambda inner, one: Broken(inner, 5, raises=True) if one.precision == "fp32" else inner)
    loop = run.loop([None] * 30 + frames(10), self_test_s=2.0)
    assert loop.run(stop=lambda: False) == 10
    assert run.events == ["self_test_failed", "breaker_open"] and run.serving[-1].name == "fake-int8"


def test_a_runtime_that_raises_in_its_first_test_is_closed_and_passed_over(start: Callable[..., Run]) -> None:
    made: list[Runtime] = []

    def wrap(inner: Runtime, one: ArtifactManifest) -> Runtime:
        made.append(Broken(inner, 2 if one.precision == "fp32" else 100, raises=True))
        return made[-1]

    run = start(wrap)
    run.loop(frames(3)).run(stop=lambda: False)
    assert run.events == ["artifact_refused"] and run.serving[0].name == "fake-int8"
    assert [one.closed for one in made] == [True, False]  # type: ignore[attr-defined]


@pytest.mark.parametrize("off", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_no_verdict_but_a_failed_inference(
    start: Callable[..., Run], off: float
) -> None:
    run = start(lambda inner, one: Broken(inner, 20, off=off) if one.precision == "fp32" else inner)
    assert run.loop(frames(40)).run(stop=lambda: False) == len(run.verdicts) == 39
    assert run.events == ["infer_failed", "self_test_failed", "breaker_open"]
    assert all(np.isfinite(one.log_odds) for one in run.verdicts)


def test_a_frame_that_cannot_be_answered_is_dropped_and_the_artifact_serves_on(start: Callable[..., Run]) -> None:
    run = start(lambda inner, _: Blind(inner))
    assert run.loop(frames(28, black={3, 5, 6, 19, 25})).run(stop=lambda: False) == 23
    assert [report.dropped for report in run.reports] == [3, 1, 1]
    assert run.events == ["infer_failed"] * 3, "one in each interval"
    assert [one.name for one in run.serving] == ["fake-fp32"] and all(report.self_test_ok for report in run.reports)


def test_three_frames_in_a_row_without_an_answer_are_too_many(start: Callable[..., Run]) -> None:
    run = start(lambda inner, one: Blind(inner) if one.precision == "fp32" else inner)
    assert run.loop(frames(30, black={12, 13, 15, 16, 17, 18})).run(stop=lambda: False) == 25
    assert [one.name for one in run.serving] == ["fake-fp32", "fake-int8"]
    assert sum(report.frames + report.dropped for report in run.reports) == 30


def test_the_fault_that_left_no_artifact_is_told(start: Callable[..., Run]) -> None:
    run = start(lambda inner, _: Blind(inner))
    run.loop(frames(9, black=range(9))).run(stop=lambda: False)
    assert run.events[-1] == "breaker_open"
    assert run.texts[-1].startswith("fake-int8: ") and "finite" in run.texts[-1]
    assert run.texts[-1].endswith("; none is left, no frame gets a verdict")
    again = start(lambda inner, _: Broken(inner, 20))
    again.loop(frames(60), self_test_s=3.0).run(stop=lambda: False)
    assert again.texts[-1].startswith("fake-int8: a golden logit is off")


def test_the_last_rung_gone_is_no_verdict_until_one_is_there_again(start: Callable[..., Run]) -> None:
    """Both fail after 20 inferences, of which the self-test takes some; each is tried again after 30 s."""
    run = start(lambda inner, _: Broken(inner, 20, raises=True))
    assert run.loop([*frames(60), *[None] * 121, *frames(5)]).run(stop=lambda: False) == len(run.verdicts)
    assert [one.name for one in run.serving] == ["fake-fp32", "fake-int8", "none", "fake-fp32"]
    assert run.events[-1] == "breaker_closed"
    assert sum(report.frames + report.dropped for report in run.reports) == 65
    assert sum(report.frames for report in run.reports) == len(run.verdicts)
    mute = [report for report in run.reports if report.frames == 0 and report.dropped]
    assert mute and all(report.flags & DEGRADED and not report.self_test_ok for report in mute)
    assert run.reports[-1].frames == 5 and run.reports[-1].self_test_ok
    assert run.events.count("infer_failed") == 2, "a frame that nothing can answer is no failed inference"


def test_an_accelerator_that_hangs_costs_one_frame_and_comes_back(start: Callable[..., Run], tmp_path: Path) -> None:
    """A real process that hangs from the tenth answer on, until another artifact serves."""
    model, fault = tmp_path / "accelerator.json", tmp_path / "fault"
    model.write_text(json.dumps({"classes": 3, "accelerator": True, "hang_when": str(fault)}))
    opened = list[Fenced]()

    def wrap(inner: Runtime, one: ArtifactManifest) -> Runtime:
        if one.precision != "fp32":
            return inner
        opened.append(Fenced("fake", model, one.input, deadline_s=0.3))
        return opened[-1]

    run = start(wrap)

    def stop() -> bool:
        if len(run.verdicts) == 10 and len(run.serving) == 1:
            fault.touch()
        elif len(run.serving) == 2:
            fault.unlink(missing_ok=True)
        return False

    answered = run.loop([*frames(30), *[None] * 121, *frames(5)]).run(stop=stop)
    run.rungs.close()
    assert [one.name for one in run.serving] == ["fake-fp32", "fake-int8", "fake-fp32"]
    assert (answered, sum(report.dropped for report in run.reports)) == (34, 1)
    assert run.events == ["infer_failed", "self_test_failed", "breaker_open", "breaker_closed"]
    assert "fake did not answer within 0.3 s and was ended" in run.texts[0]
    assert run.reports[-1].frames == 5 and not run.reports[-1].flags & DEGRADED
    assert len(opened) == 2 and {one.pid for one in opened} == {None}


def test_a_step_of_the_wall_clock_is_an_event_and_nothing_else(start: Callable[..., Run]) -> None:
    run = start()

    def stop() -> bool:
        run.wall_ms = -3_600_000 if len(run.verdicts) > 15 else 0
        return False

    run.loop(frames(30)).run(stop=stop)
    assert run.events == ["clock_step"]
    assert [report.interval_ms for report in run.reports[:2]] == [1000, 1000]


def test_another_artifact_tells_the_capture_its_input(start: Callable[..., Run]) -> None:
    run = start(lambda inner, one: Broken(inner, 10, raises=True) if one.precision == "fp32" else inner)
    loop = run.loop(frames(20))
    loop.run(stop=lambda: False)
    assert run.frames.specs == [run.serving[1].artifact.input]


def test_the_first_choice_comes_first(make_bundle: MakeBundle) -> None:
    manifest = read_bundle(make_bundle()).manifest
    assert [one.precision for one in choose(manifest, "fake-int8")] == ["int8", "fp32"]
    assert [one.precision for one in choose(manifest, None)] == ["fp32", "int8"]
    with pytest.raises(BadInput, match="it has fake-fp32, fake-int8"):
        choose(manifest, "litert-int8")


def test_verdicts_can_be_written_as_json(start: Callable[..., Run]) -> None:
    run = start()
    run.loop(frames(1)).run(stop=lambda: False)
    document = msgspec.json.decode(msgspec.json.encode(run.verdicts[0]))
    assert document["label"] in ("good", "flaw1", "flaw2") and 0 <= document["probability"] <= 1
