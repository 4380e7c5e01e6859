"""Files are timed in turns, the quietest turn counts, and what is slower is refused with its figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.benchmark import Subject
from toolkit.compression.speed import ATTEMPTS, TURNS, check_artifacts, compare, refusal, write_file

SPEC = InputSpec(height=8, width=8)
PARENT, PRUNED = (Subject(Path(name), "litert", "fp32", 1) for name in ("parent", "pruned"))


def _report(ms: float) -> BenchmarkReport:
    return BenchmarkReport(
        device="a board", runtime="litert", runtime_version="1", precision="fp32", threads=1, provenance="measured",
        runs=50, p50_ms=ms, p90_ms=ms, p99_ms=ms, min_ms=ms, max_ms=ms, size_mib=1.0,
    )  # fmt: skip


class _Clock:
    def __init__(self, times: dict[str, list[float]]) -> None:
        self._times = {name: iter(each) for name, each in times.items()}
        self.asked: list[str] = []

    def __call__(self, subject: Subject, spec: InputSpec, name: str) -> BenchmarkReport:
        self.asked.append(subject.path.name)
        return _report(next(self._times[subject.path.name]))


def test_turns_alternate_and_the_quietest_counts() -> None:
    clock = _Clock({"parent": [2.0, 1.0, 9.0], "pruned": [9.0, 0.8, 0.7]})
    found = compare("litert-fp32", PARENT, PRUNED, SPEC, clock)
    assert clock.asked == ["parent", "pruned"] * TURNS
    assert (found.parent_ms, found.pruned_ms, found.slower) == (1.0, 0.7, False)
    assert found.factor == pytest.approx(1 / 0.7) and found.provenance == "measured"


def _clock_of(ms: float) -> _Clock:
    """As often as it is asked for, but not more often."""
    turns = TURNS * (ATTEMPTS if ms > 1.03 else 1)
    return _Clock({"parent": [1.0] * turns, "pruned": [ms] * turns})


def test_what_seems_slower_once_is_measured_again() -> None:
    clock = _Clock({"parent": [1.0] * 2 * TURNS, "pruned": [1.5] * TURNS + [0.9] * TURNS})
    found = compare("onnx-fp32", PARENT, PRUNED, SPEC, clock)
    assert (found.slower, found.pruned_ms) == (False, 0.9) and len(clock.asked) == 4 * TURNS


@pytest.mark.parametrize(("ms", "slower"), [(1.02, False), (1.05, True)])
def test_slower_is_more_than_noise(ms: float, slower: bool) -> None:
    found = compare("onnx-fp32", PARENT, PRUNED, SPEC, _clock_of(ms))
    assert found.slower is slower
    said = refusal([found])
    assert ("onnx-fp32 takes 1.050 ms, its parent 1.000 ms (measured on a board)" in said) is slower
    assert bool(said) is slower


def test_an_artifact_that_is_not_known_is_named() -> None:
    with pytest.raises(BadInput, match="no artifact 'litert-fp8'; known are litert-fp32"):
        check_artifacts(["litert-fp32", "litert-fp8"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert-int8", "onnx-int8"])
def test_a_folder_holds_the_model_that_was_written_last(name: str, tmp_path: Path) -> None:
    """The search for a latency writes one cut network after the other into one folder."""
    import keras

    pictures = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    sizes = []
    for channels in (64, 8, 64):
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 8, 3))
        value = keras.layers.ReLU()(keras.layers.Conv2D(channels, 3)(image))
        model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(value)))
        sizes.append(write_file(model, name, SPEC, pictures, tmp_path / "cut").size_bytes)
    assert abs(sizes[0] - sizes[2]) < 100 < sizes[0] - sizes[1]
