"""Where models run on kinds of devices: which rules a profile has, files, runs, networks, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from converters.rule_file import BUILT_IN
from device_agent.contract.errors import BadInput, BudgetMissed, NotFound, SelfTestFailed
from profiles import registry
from toolkit.commands.convert import convert
from toolkit.commands.placement_tables import refuse_what_fails
from toolkit.commands.profiles import profiles
from toolkit.placement import PlacementReport, check_files, find_rules
from toolkit.runs import Run

V1 = "mobilenet_v1_0.25_128_quant.tflite"


def _rules(profile_id: str) -> list[str]:
    return [rules.id for rules in find_rules(registry.load(profile_id))]


def test_a_profile_has_the_rules_of_its_accelerators_and_its_runtimes() -> None:
    assert _rules("raspberry-pi-4") == ["xnnpack"]
    assert _rules("coral-usb") == ["edgetpu", "xnnpack"]
    assert _rules("intel-n100") == ["openvino-gpu", "onnxruntime-cpu", "openvino-cpu", "xnnpack"]
    assert _rules("jetson-nano") == ["tensorrt", "xnnpack"]


def test_rules_that_there_are_not_are_said() -> None:
    profile = msgspec.structs.replace(registry.load("coral-usb"), accelerators=["edge-tpu"])
    with pytest.raises(NotFound, match="did you mean 'edgetpu'"):
        find_rules(profile)


@pytest.fixture
def public(weights_dir: Path) -> Path:
    """A public int8 model, as a .tflite file."""
    pytest.importorskip("ai_edge_litert")
    return weights_dir / "tflite" / V1


def test_a_file_is_judged_by_the_rules_of_its_format(public: Path) -> None:
    report = check_files({"mine": public}, "jetson-nano", find_rules(registry.load("jetson-nano")))
    assert [check.placement.rules for check in report.checks] == ["xnnpack"]
    assert (report.unjudged, report.unserved, report.disagreeing) == (["tensorrt"], [], [])
    truth = report.checks[0].confirmation
    assert truth is not None and truth.agrees and truth.predicted == truth.found == 2
    silent = check_files({"mine": public}, "jetson-nano", find_rules(registry.load("jetson-nano")), ask=False)
    assert silent.checks[0].confirmation is None


def test_the_command_prints_prediction_and_truth(public: Path) -> None:
    shown = CliRunner().invoke(profiles, ["check", str(public), "--for", "coral-usb"], catch_exceptions=False).stdout
    assert "runs       31 of 31 operators in 1 piece, 100.0% of 13.6 million MACs" in shown
    assert "0.46 MiB of parameters on the chip, none streamed" in shown
    assert "1 AVERAGE_POOL_2D, 1 SOFTMAX, from operator 27, in LiteRT's own kernels: uint8, where float32" in shown
    assert "predicted 2, LiteRT" in shown and "has 2 (pieces in XNNPACK)" in shown
    each = CliRunner().invoke(profiles, ["check", str(public), "--for", "coral-usb", "--no-ask", "--ops"]).stdout
    assert "     30 SOFTMAX              v1   Edge TPU\n" in each and "measured" not in each


def test_as_json(public: Path) -> None:
    result = CliRunner().invoke(profiles, ["check", str(public), "--for", "raspberry-pi-4", "--json"])
    (check,) = json.loads(result.stdout)["checks"]
    assert check["placement"]["provenance"] == "predicted" and len(check["placement"]["ops"]) == 31
    assert check["confirmation"]["found"] == 2


def test_an_accelerator_that_takes_no_file_is_exit_code_3(weights_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = weights_dir / "tflite" / "vww_96_float.tflite"
    result = CliRunner().invoke(profiles, ["check", str(path), "--for", "coral-usb", "--no-ask"])
    assert isinstance(result.exception, BudgetMissed) and "edgetpu takes none of these files" in str(result.exception)
    assert "do 1       give it the 8-bit file, litert-int8" in result.stdout


def test_a_rule_that_the_runtime_contradicts_is_exit_code_4(public: Path, tmp_path: Path) -> None:
    rules = (BUILT_IN / "xnnpack.toml").read_text().replace('[ops.SOFTMAX]\ndtypes = ["float32"]', "[ops.SOFTMAX]")
    (tmp_path / "xnnpack.toml").write_text(rules)
    asked = ["check", str(public), "--for", "raspberry-pi-4", "--rules", str(tmp_path)]
    result = CliRunner().invoke(profiles, asked)
    assert isinstance(result.exception, SelfTestFailed)
    assert "WRONG      placed elsewhere by LiteRT" in result.stdout and "SOFTMAX 30" in result.stdout


def test_nothing_to_object_to() -> None:
    refuse_what_fails([PlacementReport(profile="raspberry-pi-4", checks=[])])


@pytest.mark.parametrize(
    "given",
    [[], ["model.tflite", "--model", "mobilenet-v2"], ["model.tflite", "--size", "96"]],
)
def test_a_file_or_a_network_and_not_both(given: list[str]) -> None:
    result = CliRunner().invoke(profiles, ["check", *given, "--for", "raspberry-pi-4"])
    assert result.exit_code == 2 and "give a model file or a run, or the options" in result.stderr


def test_a_network_that_cannot_be_built_is_said_before_tensorflow_is_loaded() -> None:
    asked = ["check", "--model", "mobilenet-v2", "--activation", "silu", "--for", "raspberry-pi-4"]
    result = CliRunner().invoke(profiles, asked)
    assert isinstance(result.exception, BadInput) and "both belong to mobilenet-v3" in str(result.exception)


@pytest.fixture
def press(tmp_path: Path) -> Path:
    """A folder with a profile "press" that runs ONNX files and has a GPU for TensorRT."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    text = 'id = "press"\nextends = "generic-x86-64"\nname = "Press"\n'
    (folder / "press.toml").write_text(text + 'artifacts = ["onnx-int8", "onnx-fp32"]\naccelerators = ["tensorrt"]\n')
    return folder


def test_the_artifacts_of_a_run(tiny_run: Run, press: Path) -> None:
    asked = ["check", str(tiny_run.dir), "--for", "press", "--profiles", str(press)]
    shown = CliRunner().invoke(profiles, asked, catch_exceptions=False).stdout
    assert "onnx-fp32 on TensorRT" in shown and "onnx-int8 on TensorRT" in shown
    assert shown.count("runs       4 of 4 operators in 1 piece, 100.0%") == 2
    assert "8-bit kernels" not in shown  # neither of the two files holds integers


def test_convert_check_after_what_is_up_to_date(tiny_run: Run, press: Path) -> None:
    asked = [str(tiny_run.dir), "--for", "press", "--profiles", str(press), "--check"]
    shown = CliRunner().invoke(convert, asked, catch_exceptions=False).stdout
    assert "onnx-int8" in shown and "current" in shown and "press: where each operator runs" in shown
    document = json.loads(CliRunner().invoke(convert, [*asked, "--json"]).stdout)
    assert [one["outcome"] for one in document["conversions"]] == ["current", "current"]
    assert document["placements"][0]["checks"][0]["placement"]["rules"] == "tensorrt"


def test_a_run_without_artifacts(tiny_run: Run) -> None:
    shutil.rmtree(tiny_run.dir / "artifacts")
    result = CliRunner().invoke(profiles, ["check", str(tiny_run.dir), "--for", "raspberry-pi-4"])
    assert isinstance(result.exception, BadInput) and "lineside convert" in str(result.exception)


def test_convert_check_needs_a_profile() -> None:
    result = CliRunner().invoke(convert, ["runs/steel", "--all", "--check"])
    assert result.exit_code == 2 and "--check needs --for PROFILE" in result.stderr


@pytest.mark.slow
def test_a_network_before_its_training() -> None:
    asked = ["check", "--model", "mobilenet-v3-small", "--width", "0.35", "--size", "64", "--for", "raspberry-pi-4"]
    shown = CliRunner().invoke(profiles, asked, catch_exceptions=False).stdout
    assert "runs       124 of 124 operators in 1 piece" in shown and "HARD_SWISH" not in shown
    assert "predicted 1, LiteRT 2.3.0 has 1 (pieces in XNNPACK)" in shown
    mended = CliRunner().invoke(profiles, [*asked, "--activation", "silu"], catch_exceptions=False).stdout
    assert "runs       124 of 124 operators in 1 piece" in mended and "HARD_SWISH" not in mended
