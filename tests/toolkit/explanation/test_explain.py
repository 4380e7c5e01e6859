"""The commands explain and diff, on files that are put together by hand and on a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from converters.mixed_graph import Mix, write_mixed
from converters.tflite_file import read_graph
from device_agent.contract.errors import BadInput, BudgetMissed, NotFound
from toolkit.commands.diff import diff
from toolkit.commands.explain import explain
from toolkit.explanation.judging import judge
from toolkit.explanation.stopwatch import time_together
from toolkit.explanation.subject import spec_of
from toolkit.runs import Run

Make = Callable[..., Path]


def call(command: object, *arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], env={"COLUMNS": "240"})  # type: ignore[arg-type]


def test_a_file_from_elsewhere_is_explained(int8_file: Make, pattern_folder: Path, tmp_path: Path) -> None:
    path = int8_file("spoilt.tflite", spoilt=40)
    result = call(explain, path, "--data", pattern_folder, "--json", "--no-latency", "--out", tmp_path / "page")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    cause = found["causes"][0]
    assert (cause["cause"], cause["worst"]) == ("range outliers", "second") and cause["share"] > 0.8
    clipped, floated = cause["fixes"]
    assert clipped["judgement"]["gain_low"] > 0.2 and floated["judgement"]["gain_low"] > 0.2
    assert found["stored"]["judgement"]["gain"] == 0 and found["labelled"] == 24 and found["recentred"]
    assert "own weights" in found["compared"] and found["stored"]["time"] is None
    assert found["error"] == pytest.approx(found["predicted_error"], rel=0.5)
    page = (tmp_path / "page" / "explain.html").read_text()
    assert "data:image/png;base64," in page and "range outliers: second" in page


def test_the_tables_say_what_is_worth_having(int8_file: Make, pattern_folder: Path) -> None:
    path = int8_file("spoilt.tflite", spoilt=40)
    result = call(explain, path, "--data", pattern_folder, "--causes", "2", "--layers", "3", "--quick")
    assert result.exit_code == 0, result.output
    for said in ("the 3 noisiest of 6 layers", "measured in turn", "saturation without VNNI"):
        assert said in result.stdout, result.stdout
    assert "trying range of least squared error" in result.stderr
    untimed = call(explain, path, "--data", pattern_folder, "--causes", "2", "--no-latency")
    assert "worth having: second: " in untimed.stdout, untimed.stdout


def test_a_hard_swish_is_a_cause_whatever_its_noise(int8_file: Make, pattern_folder: Path) -> None:
    result = call(explain, int8_file(), "--data", pattern_folder, "--json", "--no-latency", "--causes", "6")
    causes = {each["cause"]: each for each in json.loads(result.stdout)["causes"]}
    fixes = [each["fix"] for each in causes["hard-swish"]["fixes"]]
    assert fixes[0].startswith("all of them as x * clip")
    assert all(each["why_not"] == "" for each in causes["hard-swish"]["fixes"])


def test_what_explain_cannot_do_is_said(int8_file: Make, tiny_run: Run, tmp_path: Path, pattern_folder: Path) -> None:
    for arguments, kind, said in (
        ((int8_file(),), BadInput, "name a folder with --data"),
        ((tiny_run.dir, "--data", pattern_folder), BadInput, "--data is for a file"),
        ((tiny_run.dir, "--artifact", "onnx-int8"), BadInput, "onnx-int8 cannot be explained"),
        ((tiny_run.dir,), NotFound, "litert-int8 is not there"),
        ((tmp_path / "none.tflite", "--data", pattern_folder), NotFound, "no such file"),
    ):
        error = call(explain, *arguments).exception
        assert isinstance(error, kind) and said in str(error), error


def test_the_bytes_of_an_image_fill_the_input(int8_file: Make) -> None:
    path = int8_file()
    spec = spec_of(path, read_graph(path))
    assert (spec.height, spec.width, spec.channels) == (16, 16, 3)
    assert spec.offset == pytest.approx(-1, abs=0.01) and 255 * spec.scale + spec.offset == pytest.approx(1, abs=0.01)


def test_judging_counts_what_became_less() -> None:
    rng = np.random.default_rng(0)
    true, noise = rng.normal(0, 3, (200, 4)), rng.normal(0, 1, (200, 4))
    labels = true.argmax(axis=1)
    found = judge(true, true + noise, true + noise / 4, labels)
    assert found.gain == pytest.approx(0.75, abs=0.01) and found.gain_low > 0.7
    assert found.points is not None and found.points > 3 and found.points_low is not None and found.points_low > 0
    worse = judge(true, true + noise / 4, true + noise, None)
    assert worse.gain_high < 0 and worse.points is None


class _Clock:
    """A runtime whose inference takes as long as it says, by a clock of its own."""

    def __init__(self, clock: list[float], took_s: float) -> None:
        self.clock, self.took_s = clock, took_s

    def encode(self, image: np.ndarray) -> np.ndarray:
        return image

    def invoke(self, tensor: np.ndarray) -> np.ndarray:
        self.clock[0] += self.took_s
        return tensor


def test_models_are_timed_in_turn(int8_file: Make) -> None:
    clock = [0.0]
    path = int8_file()
    spec = spec_of(path, read_graph(path))
    models = {"slow": (_Clock(clock, 0.004), spec), "fast": (_Clock(clock, 0.001), spec)}
    found = time_together(models, seconds=1.0, wall=lambda: clock[0])  # type: ignore[arg-type]
    assert found["slow"].p50_ms == pytest.approx(4) and found["fast"].high_ms == pytest.approx(1)
    assert found["fast"].more_high_ms == pytest.approx(-3) and found["fast"].differs and not found["slow"].differs
    assert found["slow"].runs == found["fast"].runs >= 100 and not found["slow"].flags


def test_the_difference_of_two_files(int8_file: Make, pattern_folder: Path, tmp_path: Path) -> None:
    a, b = int8_file("a.tflite"), int8_file("b.tflite", spoilt=200)
    result = call(diff, a, b, "--data", pattern_folder, "--json", "--no-latency", "--out", tmp_path / "page")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    changed = [each["name"] for each in found["layers"] if each["a"] != each["b"]]
    assert changed == ["second"] and found["sizes"][0]["parameters"] == found["sizes"][1]["parameters"]
    decisions = found["decisions"]
    assert decisions["images"] == 24 and len(decisions["flips"]) > 0
    assert found["left_out"] == ["latency: was not asked for"]
    assert (tmp_path / "page" / "flips.html").read_text().count("<figure>") == len(decisions["flips"])
    assert "second" in (tmp_path / "page" / "diff.html").read_text()
    over = call(diff, a, b, "--data", pattern_folder, "--no-latency", "--max-flips", "0").exception
    assert isinstance(over, BudgetMissed) and "decisions flip, allowed 0" in str(over)
    shown = call(diff, a, b, "--quick")
    assert "latency p50, ms" in shown.stdout and "-> -1.61e+03 to 1.59e+03" in shown.stdout, shown.output
    assert "not compared: accuracy and decisions" in shown.stdout


@pytest.fixture
def quantized_run(tiny_run: Run, int8_file: Make, put_artifact: Callable[[Run, str, bytes], None]) -> Run:
    """A run with litert-int8, of which a range is spoilt, and the float network that it was made of."""
    path = int8_file("spoilt.tflite", spoilt=60, size=8)
    twin = path.with_name("float.tflite")
    write_mixed(path, twin, Mix(), {})
    put_artifact(tiny_run, "litert-fp32", twin.read_bytes())
    put_artifact(tiny_run, "litert-int8", path.read_bytes())
    return tiny_run


def test_a_run_is_explained_against_its_float_artifact(quantized_run: Run) -> None:
    result = call(explain, quantized_run.dir, "--no-latency", "--causes", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["compared"] == "the trained network in float" and found["judged"] == 60
    assert found["causes"][0]["worst"] == "second"
    assert found["causes"][0]["fixes"][0]["judgement"]["points"] is not None
    assert (quantized_run.dir / "evaluation" / "explain.html").is_file()


def test_a_float_artifact_of_another_model_is_not_believed(
    quantized_run: Run, int8_file: Make, put_artifact: Callable[[Run, str, bytes], None]
) -> None:
    other = int8_file("other.tflite", seed=2, size=8)
    write_mixed(other, other.with_name("other-float.tflite"), Mix(), {})
    put_artifact(quantized_run, "litert-fp32", other.with_name("other-float.tflite").read_bytes())
    found = json.loads(call(explain, quantized_run.dir, "--no-latency", "--causes", "0", "--json").stdout)
    assert "own weights" in found["compared"] and found["causes"] == []


def test_a_run_and_its_float_artifact_differ_in_types_only(quantized_run: Run) -> None:
    names = "--artifact", "litert-fp32", "--artifact", "litert-int8"
    result = call(diff, quantized_run.dir, quantized_run.dir, *names, "--no-latency", "--json")
    found = json.loads(result.stdout)
    layer = next(each for each in found["layers"] if each["name"] == "second")
    assert (layer["a"]["output"], layer["b"]["output"]) == ("float32", "int8") and layer["weights"] < 0.01
    assert found["decisions"]["images"] == 60


def test_two_artifacts_of_a_run_differ(tiny_run: Run, tmp_path: Path) -> None:
    result = call(diff, tiny_run.dir, tiny_run.artifact_dir("onnx-int8"), "--artifact", "onnx-fp32", "--no-latency")
    assert result.exit_code == 0, result.output
    assert "decisions on 60 images in 30 groups of the val split" in result.stdout
    assert "not compared: weights and quantization" in result.stdout


def test_what_diff_cannot_do_is_said(int8_file: Make, tiny_run: Run, tmp_path: Path) -> None:
    path = int8_file()
    (tmp_path / "text.txt").write_text("no model")
    for arguments, kind, said in (
        ((path, path), BadInput, "both sides are the same file"),
        ((path, tmp_path / "none"), NotFound, "no such run, artifact or file"),
        ((path, tmp_path / "text.txt"), BadInput, "must be a run, the folder of an artifact, or a file"),
        ((path, int8_file("b.tflite", seed=2), "--no-latency", "--max-flips", "1"), BadInput, "needs images"),
        ((tiny_run.dir, path), NotFound, "litert-int8 is not there"),
    ):
        error = call(diff, *arguments).exception
        assert isinstance(error, kind) and said in str(error), error


def test_another_number_of_classes_is_refused(int8_file: Make, tiny_run: Run) -> None:
    folder = tiny_run.dataset().dir
    a, b = int8_file("a.tflite"), int8_file("b.tflite", seed=2)
    assert call(diff, a, b, "--data", folder, "--no-latency").exit_code == 0
    (folder / "manifest.csv").rename(folder / "kept.csv")
    try:
        extra = folder / "rust"
        extra.mkdir()
        (extra / "0.png").write_bytes(next((folder / "good").glob("*.png")).read_bytes())
        error = call(diff, a, b, "--data", folder, "--no-latency").exception
        assert isinstance(error, BadInput) and "gives 3 answers" in str(error) and "4 classes" in str(error)
    finally:
        (extra / "0.png").unlink()
        extra.rmdir()
        (folder / "kept.csv").rename(folder / "manifest.csv")
