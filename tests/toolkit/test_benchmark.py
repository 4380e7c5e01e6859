"""Benchmark of a run's artifacts: reports are saved, budgets judged only where they apply."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner, Result

from device_agent.contract.benchmark import BenchmarkReport
from device_agent.contract.errors import BadInput, BudgetMissed, NotFound
from device_agent.contract.manifest import RunSection
from toolkit import benchmark
from toolkit.benchmark import bench_artifact, find_misses
from toolkit.commands.bench import bench
from toolkit.evaluation.scores import evaluate_artifact
from toolkit.runs import Run

REPORT = BenchmarkReport(
    device="a machine, 2 cores",
    runtime="onnx",
    runtime_version="1",
    precision="fp32",
    threads=1,
    provenance="measured",
    runs=50,
    p50_ms=3.0,
    p90_ms=3.1,
    p99_ms=3.2,
    min_ms=2.9,
    max_ms=4.0,
    rss_peak_mib=60.0,
    size_mib=1.0,
)


def test_an_artifact_is_measured_in_its_own_process_and_saved(tiny_run: Run) -> None:
    report = bench_artifact(tiny_run, "onnx-fp32", quick=True)
    assert report.runtime == "onnx" and report.provenance == "measured" and report.runs >= 50
    assert report.rss_peak_mib is not None and report.rss_peak_mib > 20
    assert report.size_mib == pytest.approx((tiny_run.artifact_dir("onnx-fp32") / "model.onnx").stat().st_size / 2**20)
    (saved,) = (tiny_run.dir / "benchmark").iterdir()
    assert saved.name == "onnx-fp32.json" and msgspec.json.decode(saved.read_bytes(), type=BenchmarkReport) == report


def test_what_cannot_be_measured_says_why(tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None]) -> None:
    put_artifact(tiny_run, "onnx-fp32", b"nonsense")
    with pytest.raises(BadInput, match=r"onnx-fp32 cannot be measured: .*model\.onnx"):
        bench_artifact(tiny_run, "onnx-fp32", quick=True)
    assert not (tiny_run.dir / "benchmark").exists()
    with pytest.raises(NotFound, match="lineside convert"):
        bench_artifact(tiny_run, "litert-fp32", quick=True)


def test_a_budget_is_missed_when_it_is_over_and_only_then() -> None:
    assert find_misses("a", REPORT, RunSection(latency_p50_ms=3.0, rss_mib=60, size_mib=1)) == []
    assert find_misses("a", REPORT, RunSection()) == []
    over = find_misses("a", REPORT, RunSection(latency_p50_ms=2.9, rss_mib=59, size_mib=0.9))
    assert [(miss.figure, miss.unit) for miss in over] == [("p50", "ms"), ("RSS", "MiB"), ("size", "MiB")]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "bench_artifact", lambda run, name, **options: REPORT)


def call(run: Run, *arguments: str) -> Result:
    return CliRunner().invoke(bench, [str(run.dir), *arguments], env={"COLUMNS": "160"})


@pytest.mark.usefixtures("measured")
class TestCommand:
    def test_a_table_with_accuracy_where_it_is_known(self, tiny_run: Run) -> None:
        accuracy = evaluate_artifact(tiny_run, "onnx-fp32").accuracy
        result = call(tiny_run)
        assert result.exit_code == 0, result.output
        assert "measured on this machine: a machine, 2 cores" in result.stdout
        assert f"{accuracy:.3f}" in result.stdout and "3.200" in result.stdout

    def test_the_accuracy_of_another_file_is_not_shown(
        self, tiny_run: Run, put_artifact: Callable[[Run, str, bytes], None]
    ) -> None:
        accuracy = f"{evaluate_artifact(tiny_run, 'onnx-fp32').accuracy:.3f}"
        assert accuracy in call(tiny_run, "--artifact", "onnx-fp32").stdout
        other = (tiny_run.artifact_dir("onnx-int8") / "model.onnx").read_bytes()
        put_artifact(tiny_run, "onnx-fp32", other)
        result = call(tiny_run, "--artifact", "onnx-fp32")
        assert result.exit_code == 0 and accuracy not in result.stdout

    @pytest.mark.parametrize("limit", ["nan", "-5", "0", "fast"])
    def test_a_limit_that_cannot_be_met_or_missed_is_wrong_usage(self, tiny_run: Run, limit: str) -> None:
        assert call(tiny_run, "--max-p50-ms", limit).exit_code == 2

    def test_another_board_is_given_no_verdict(self, tiny_run: Run) -> None:
        result = call(tiny_run, "--for", "raspberry-pi-4", "--artifact", "onnx-fp32")
        assert result.exit_code == 0
        assert "budget of raspberry-pi-4" in result.stdout
        assert "measured on this machine, not on the board" in result.stdout
        assert "fits" not in result.stdout

    def test_a_missed_budget_of_this_machine_is_exit_code_3(self, tiny_run: Run, tmp_path) -> None:
        folder = tmp_path / "more"
        folder.mkdir()
        text = 'id = "slow"\nextends = "generic-x86-64"\n[budgets]\n'
        (folder / "slow.toml").write_text(text + 'p50_ms = { value = 1, kind = "estimate", source = "a choice" }\n')
        result = call(tiny_run, "--for", "slow", "--profiles", str(folder))
        assert isinstance(result.exception, BudgetMissed) and result.exception.exit_code == 3
        assert "onnx-fp32 p50 3 > 1 ms" in str(result.exception)
        assert call(tiny_run, "--for", "generic-x86-64").exit_code == 0

    def test_a_limit_of_ones_own(self, tiny_run: Run) -> None:
        assert call(tiny_run, "--max-p50-ms", "3.5").exit_code == 0
        assert isinstance(call(tiny_run, "--max-p50-ms", "2.5").exception, BudgetMissed)

    def test_json(self, tiny_run: Run) -> None:
        reports = json.loads(call(tiny_run, "--json").stdout)
        assert sorted(reports) == ["onnx-fp32", "onnx-int8"]
        assert msgspec.convert(reports["onnx-fp32"], BenchmarkReport) == REPORT
