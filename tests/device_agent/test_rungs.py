"""Down when an artifact goes wrong, up again half-open, and no verdict where none is left; on a clock that stands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import LinesideError, MissingPackage, SelfTestFailed, Unreachable
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import ArtifactManifest, Baseline, FileEntry, Golden, InputSpec
from device_agent.rungs import Rungs, Serving
from device_agent.runtimes import Runtime
from device_agent.trial import aside

SPEC = InputSpec(height=8, width=8)
IMAGES = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (3, 90)])
NAMES = ("edgetpu", "litert", "onnx")


class Device:
    """A runtime whose logits are the mean of the image, once and twice; `fault` is what is the matter with it."""

    version, classes = "1", 2

    def __init__(self, name: str, faults: dict[str, str], *, killable: bool) -> None:
        self.name, self.killable, self._faults, self.closed = name, killable, faults, False

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        return image

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        fault = self._faults.get(self.name, "")
        if fault == "hangs":
            raise Unreachable(f"{self.name} did not answer within 2 s and was ended")
        return np.array([tensor.mean(), 2 * tensor.mean() + (fault == "wrong")], np.float32)

    def close(self) -> None:
        self.closed = True


class Ladder:
    """Three artifacts: an accelerator and two on the CPU. `faults` by runtime: "hangs", "wrong", "gone", "missing"."""

    def __init__(self, clock: Any, **kwargs: Any) -> None:
        self.clock, self.faults, self.opened = clock, dict[str, str](), list[Device]()
        self.events, self.trials = list[tuple[str, str]](), list[tuple[float, str]]()
        golden = Golden([[3.0, 6.0], [90.0, 180.0]], 0.01)
        artifacts = [
            ArtifactManifest(
                runtime=name,
                precision="int8",
                files=[FileEntry(f"{name}.bin", 1, "0" * 64)],
                input=SPEC,
                temperature=1.0,
                golden=golden,
                baseline=Baseline.of(np.ones((2, 2, BINS), int)),
            )
            for name in NAMES
        ]
        given = {"clock": clock, "beside": lambda work: work(), **kwargs}
        self.rungs = Rungs(artifacts, IMAGES, self.open, lambda *event: self.events.append(event), **given)

    def open(self, artifact: ArtifactManifest) -> Runtime:
        self.trials.append((self.clock.seconds(), artifact.runtime))
        fault = self.faults.get(artifact.runtime)
        if fault == "gone":
            raise Unreachable(f"{artifact.runtime}: no device answers")
        if fault == "missing":
            raise MissingPackage(f"{artifact.runtime} is not installed")
        if fault == "a bug":
            raise ZeroDivisionError("division by zero")
        self.opened.append(Device(artifact.runtime, self.faults, killable=artifact.runtime == "edgetpu"))
        return self.opened[-1]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def run(self, seconds: int, each: Callable[[Serving], None] = lambda _: None) -> Serving:
        """Ask once a second what serves; `each` hears of it."""
        serving = self.rungs.probe()
        for _ in range(seconds):
            self.clock.pass_s(1)
            serving = self.rungs.probe()
            each(serving)
        return serving


@pytest.fixture
def ladder(clock: Any) -> Ladder:
    return Ladder(clock)


def test_an_accelerator_that_hangs_makes_way_and_comes_back_half_open(ladder: Ladder) -> None:
    first = ladder.rungs.descend()
    assert (first.name, first.degraded, ladder.rungs.check(first)) == ("edgetpu-int8", False, first)
    ladder.faults["edgetpu"] = "hangs"
    second = ladder.rungs.check(first)
    assert (second.name, second.degraded) == ("litert-int8", True)
    assert ladder.opened[0].closed and not ladder.opened[1].closed
    assert ladder.kinds() == ["self_test_failed", "breaker_open"]
    said = "edgetpu-int8: edgetpu did not answer within 2 s and was ended"
    assert ladder.events[-1][1] == f"{said}; litert-int8 serves"
    assert ladder.run(29) is second and len(ladder.trials) == 2, "too early"
    assert ladder.run(60) is second and len(ladder.trials) == 3, "one trial, and the next a minute later"
    ladder.faults.clear()
    again = ladder.run(2)
    assert (again.name, again.degraded) == ("edgetpu-int8", False)
    assert ladder.kinds() == ["self_test_failed", "breaker_open", "breaker_closed"], "a trial that fails is no change"
    assert ladder.events[-1][1] == "edgetpu-int8 gives its golden answers again and serves"
    assert [one.closed for one in ladder.opened] == [True, True, True, False]


def test_one_that_fails_after_each_success_is_tried_less_and_less(ladder: Ladder) -> None:
    ladder.rungs.descend()

    def fail(serving: Serving) -> None:
        if serving.name == "edgetpu-int8":
            ladder.rungs.descend("edgetpu-int8: fails after a second")

    fail(ladder.rungs.probe())
    ladder.run(5 * 3600, fail)
    tried = [at for at, name in ladder.trials if name == "edgetpu"]
    waits = [later - at for at, later in pairwise(tried[1:])]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert ladder.kinds().count("breaker_open") == ladder.kinds().count("breaker_closed") + 1


def test_one_that_served_long_enough_is_tried_again_soon(ladder: Ladder) -> None:
    ladder.rungs.descend()
    for wait_s in (30, 60):
        ladder.rungs.descend("edgetpu-int8: one fault")
        assert ladder.run(wait_s - 1).name == "litert-int8" and ladder.run(1).name == "edgetpu-int8"
    ladder.run(600)
    ladder.rungs.descend("edgetpu-int8: one fault")
    assert ladder.run(29).name == "litert-int8" and ladder.run(1).name == "edgetpu-int8"


def test_wrong_answers_of_a_cpu_runtime_are_tried_hourly(ladder: Ladder) -> None:
    ladder.faults.update(edgetpu="wrong", litert="wrong")
    assert ladder.rungs.descend().name == "onnx-int8"
    assert ladder.kinds() == ["artifact_refused"] * 2
    ladder.run(3599)
    tried = [name for _, name in ladder.trials[3:]]
    assert "litert" not in tried and tried.count("edgetpu") == 6, "a device may come to itself"
    ladder.faults.clear()
    assert ladder.run(2).name == "litert-int8", "the second choice is better than the third"
    assert ladder.run(3600).name == "edgetpu-int8"
    assert ladder.kinds() == ["artifact_refused"] * 2 + ["breaker_closed"] * 2


def test_what_is_not_installed_is_tried_hourly(ladder: Ladder) -> None:
    ladder.faults["edgetpu"] = "missing"
    assert ladder.rungs.descend().name == "litert-int8"
    ladder.run(3 * 3600)
    assert [name for _, name in ladder.trials].count("edgetpu") == 4
    assert ladder.kinds() == ["artifact_refused"]


def test_another_reason_is_told_and_the_same_one_is_not(ladder: Ladder) -> None:
    ladder.rungs.descend()
    ladder.faults["edgetpu"] = "gone"
    ladder.rungs.descend("edgetpu-int8: edgetpu did not answer within 2 s and was ended")
    ladder.run(3600)
    assert ladder.events[1:] == [("artifact_refused", "edgetpu-int8: edgetpu: no device answers")]


def test_none_left_is_no_verdict_until_one_answers_again(ladder: Ladder) -> None:
    serving = ladder.rungs.descend()
    ladder.faults.update(edgetpu="hangs", litert="wrong", onnx="gone")
    none = ladder.rungs.check(serving)
    assert not none.answers and none.degraded and none.name == "none"
    assert none.artifact is serving.artifact, "the model of the reports is the one that answered last"
    assert ladder.kinds() == ["self_test_failed", "artifact_refused", "artifact_refused", "breaker_open"]
    assert ladder.events[-1][1].endswith("; none is left, no frame gets a verdict")
    with pytest.raises(LinesideError, match="no artifact of the bundle can serve"):
        none.runtime.encode(IMAGES[0])
    assert ladder.rungs.check(none) is ladder.rungs.descend("again") is ladder.run(300) is none
    del ladder.faults["onnx"]
    assert ladder.run(600).name == "onnx-int8"
    ladder.faults.clear()
    assert ladder.run(3600).name == "edgetpu-int8"
    assert ladder.kinds()[4:] == ["breaker_closed", "breaker_closed"]


def test_none_at_the_start_is_refused(ladder: Ladder) -> None:
    ladder.faults.update(edgetpu="gone", litert="wrong", onnx="missing")
    with pytest.raises(SelfTestFailed, match="can serve; the last one, onnx-int8: onnx is not installed") as failed:
        ladder.rungs.descend()
    assert failed.value.exit_code == 4
    assert all(one.closed for one in ladder.opened)


def test_the_way_down_passes_over_what_was_found_wrong_lately(ladder: Ladder) -> None:
    serving = ladder.rungs.descend()
    ladder.faults.update(edgetpu="hangs", litert="wrong")
    assert ladder.rungs.check(serving).name == "onnx-int8"
    del ladder.faults["edgetpu"]
    assert ladder.run(30).name == "edgetpu-int8"
    assert ladder.rungs.descend("edgetpu-int8: once more").name == "onnx-int8"
    assert [name for _, name in ladder.trials].count("litert") == 1
    assert ladder.kinds().count("artifact_refused") == 1


def test_a_trial_does_not_make_the_loop_wait(clock: Any, eventually: Callable[..., Any]) -> None:
    go = threading.Event()

    def beside(work: Callable[[], None]) -> None:
        aside(lambda: work() if go.wait(30) else None)

    ladder = Ladder(clock, beside=beside)
    ladder.rungs.descend()
    second = ladder.rungs.descend("edgetpu-int8: a fault")
    assert ladder.run(100) is second, "the trial is under way"
    go.set()
    assert eventually(lambda: ladder.rungs.probe() is not second)
    assert ladder.rungs.probe().name == "edgetpu-int8"


def test_a_trial_that_nobody_waits_for_any_more_closes_what_it_opened(clock: Any) -> None:
    works = list[Callable[[], None]]()
    for ends_first in (True, False):
        ladder = Ladder(clock, beside=works.append)
        ladder.rungs.descend()
        ladder.rungs.descend("edgetpu-int8: a fault")
        ladder.run(30)
        if ends_first:
            works.pop()()
        ladder.rungs.close()
        if not ends_first:
            works.pop()()
        assert len(ladder.opened) == 3 and all(one.closed for one in ladder.opened)


def test_an_error_in_a_trial_is_told_and_the_next_one_follows(ladder: Ladder) -> None:
    ladder.rungs.descend()
    ladder.rungs.descend("edgetpu-int8: a fault")
    ladder.faults["edgetpu"] = "a bug"
    assert ladder.run(31).name == "litert-int8"
    said = "edgetpu-int8: error in this program: ZeroDivisionError: division by zero"
    assert ladder.events[-1] == ("artifact_refused", said)
    ladder.faults.clear()
    assert ladder.run(3600).name == "edgetpu-int8"


def test_golden_answers_that_do_not_fit_are_a_fault_and_no_error(clock: Any) -> None:
    ladder = Ladder(clock)
    rungs = Rungs(ladder.rungs._artifacts, IMAGES[:1], ladder.open, lambda *_: None, clock=clock)
    with pytest.raises(SelfTestFailed, match="1 golden images but 2 answers"):
        rungs.descend()
