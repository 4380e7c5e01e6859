"""The best recall within a limit of measured latency."""

from __future__ import annotations

import os

import msgspec
import pytest

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole
from toolkit.evaluation.figures import Figure
from toolkit.evaluation.latency import figure_under_limit
from toolkit.evaluation.scores import Evaluation, evaluate_artifact
from toolkit.runs import Run


def bench(run: Run, name: str, p50_ms: float, p99_ms: float, **more: str) -> None:
    report = BenchmarkReport(
        device=more.get("device", "here"),
        runtime="onnx",
        runtime_version="1",
        precision="fp32",
        threads=1,
        provenance=more.get("provenance", "measured"),  # type: ignore[arg-type]
        runs=10,
        p50_ms=p50_ms,
        p90_ms=p50_ms,
        p99_ms=p99_ms,
        min_ms=0,
        max_ms=p99_ms,
        size_mib=1,
    )
    write_whole(run.dir / "benchmark" / f"{name}.json", msgspec.json.encode(report))


@pytest.fixture
def evaluated(tiny_run: Run) -> list[Evaluation]:
    """Two artifacts: fp32 finds all defects, int8 90 %."""
    out = []
    for name, recall in (("onnx-fp32", 1.0), ("onnx-int8", 0.9)):
        one = evaluate_artifact(tiny_run, name)
        figures = one.figures | {"defect-recall": Figure(recall, recall - 0.1, recall, 40, 20)}
        out.append(msgspec.structs.replace(one, figures=figures))
    return out


def test_the_best_of_those_that_are_fast_enough(tiny_run: Run, evaluated: list[Evaluation]) -> None:
    bench(tiny_run, "onnx-fp32", 2, 9)
    bench(tiny_run, "onnx-int8", 1, 3)
    found = figure_under_limit(tiny_run, evaluated, 5)
    assert (found.best, found.metric, found.device) == ("onnx-int8", "defect-recall", "here")
    assert [(row.latency_ms, row.within) for row in found.artifacts] == [(9, False), (3, True)]
    assert figure_under_limit(tiny_run, evaluated, 5, quantile="p50").best == "onnx-fp32"
    assert figure_under_limit(tiny_run, evaluated, 0.5).best is None
    assert figure_under_limit(tiny_run, evaluated, 3).best == "onnx-int8", "the limit itself is within"


def test_what_was_not_measured_is_never_chosen(tiny_run: Run, evaluated: list[Evaluation]) -> None:
    with pytest.raises(NotFound, match="lineside bench"):
        figure_under_limit(tiny_run, evaluated, 5)
    bench(tiny_run, "onnx-fp32", 1, 1, provenance="predicted")
    with pytest.raises(NotFound, match="no latency was measured"):
        figure_under_limit(tiny_run, evaluated, 5)
    bench(tiny_run, "onnx-int8", 1, 1)
    found = figure_under_limit(tiny_run, evaluated, 5)
    assert found.best == "onnx-int8" and found.artifacts[0].latency_ms is None


def test_a_measurement_of_an_earlier_conversion_does_not_count(tiny_run: Run, evaluated: list[Evaluation]) -> None:
    bench(tiny_run, "onnx-fp32", 1, 1)
    os.utime(tiny_run.dir / "benchmark" / "onnx-fp32.json", (1, 1))
    with pytest.raises(NotFound, match="no latency was measured"):
        figure_under_limit(tiny_run, evaluated, 5)


def test_latencies_of_two_devices_are_not_mixed(tiny_run: Run, evaluated: list[Evaluation]) -> None:
    bench(tiny_run, "onnx-fp32", 1, 1)
    bench(tiny_run, "onnx-int8", 1, 1, device="a board")
    with pytest.raises(BadInput, match="several devices"):
        figure_under_limit(tiny_run, evaluated, 5)
