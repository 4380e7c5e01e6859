"""`lineside convert` and `lineside verify` on a small run, from the command line's side."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput, NotFound, ParityFailed
from device_agent.contract.manifest import InputSpec, Label
from toolkit.commands.convert import convert
from toolkit.commands.verify import verify
from toolkit.images import open_dataset
from toolkit.models import save_model
from toolkit.runs import RunRecord, write_record, write_split

TINY = Path(__file__).parents[1] / "converters" / "tiny_models.py"


def invoke(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments])


def _tiny_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_models", TINY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny_models, root = _tiny_models(), tmp_path_factory.mktemp("run")
    images, labels = tiny_models.textures(240, seed=4)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / "data" / tiny_models.NAMES[label] / f"{row:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[:, :, ::-1])
    dataset = open_dataset(root / "data")
    folder = root / "runs" / "tiny"
    folder.mkdir(parents=True)
    save_model(tiny_models.tiny("mobilenet-v2"), folder / "model.keras")
    write_split(folder / "split.csv", dataset, np.resize(["train", "val", "train", "train"], len(dataset)))
    record = RunRecord(
        status="trained",
        name="tiny",
        labels=[Label(name, "good" if name == "good" else "defect") for name in dataset.names],
        input=tiny_models.SPEC,
        family="mobilenet-v2",
        alpha=0.35,
        seed=0,
        data=str(root / "data"),
        data_sha256=dataset.sha256(),
        recipe={},
    )
    write_record(folder, record)
    return folder


@pytest.mark.slow
def test_convert_then_verify(run: Path) -> None:
    first = invoke(convert, run, "--only", "onnx-fp32", "--only", "litert-int8")
    assert first.exit_code == 0, first.output
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["ARTIFACT", "litert-int8", "onnx-fp32"]

    before = (run / "artifacts" / "litert-int8" / "artifact.json").stat().st_mtime_ns
    again = json.loads(invoke(convert, run, "--only", "litert-int8", "--json").stdout)
    assert [each["outcome"] for each in again] == ["current"]
    assert again[0]["artifact"]["parity"]["agreement"] > 0.9
    assert (run / "artifacts" / "litert-int8" / "artifact.json").stat().st_mtime_ns == before

    good = json.loads(invoke(verify, run, "--json").stdout)
    assert [(each["name"], each["passed"]) for each in good] == [("litert-int8", True), ("onnx-fp32", True)]

    model = run / "artifacts" / "onnx-fp32" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 255
    model.write_bytes(content)
    bad = invoke(verify, run)
    assert isinstance(bad.exception, ParityFailed)
    assert bad.exception.exit_code == 4
    assert "onnx-fp32" in str(bad.exception) and "litert-int8" not in str(bad.exception)

    repaired = json.loads(invoke(convert, run, "--only", "onnx-fp32", "--json").stdout)
    assert [each["outcome"] for each in repaired] == ["converted"]
    assert invoke(verify, run).exit_code == 0


@pytest.mark.slow
def test_artifact_that_fails_does_not_keep_the_others_from_being_made(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    from converters import parity

    strict = msgspec.structs.replace(parity.GATES["int8"], mean_error=1e-6)
    monkeypatch.setitem(parity.GATES, "int8", strict)
    result = invoke(convert, run, "--only", "onnx-int8", "--only", "openvino-fp16")
    assert isinstance(result.exception, ParityFailed)
    assert "onnx-int8: mean error" in str(result.exception)
    assert not (run / "artifacts" / "onnx-int8").exists()
    assert (run / "artifacts" / "openvino-fp16" / "artifact.json").exists()


def test_nothing_named_is_a_usage_error(tmp_path: Path) -> None:
    result = invoke(convert, tmp_path)
    assert result.exit_code == 2
    assert "--for PROFILE" in result.output


def test_unknown_artifact_lists_the_known(run_without_model: Path) -> None:
    error = invoke(convert, run_without_model, "--only", "tensorrt-fp16").exception
    assert isinstance(error, BadInput)
    assert "no artifact 'tensorrt-fp16'; known are litert-fp32" in str(error)


def test_no_run_is_not_found(tmp_path: Path) -> None:
    for command, options in ((convert, ["--all"]), (verify, [])):
        error = invoke(command, tmp_path / "gone", *options).exception
        assert isinstance(error, NotFound)


def test_verify_without_artifacts_names_the_command(run_without_model: Path) -> None:
    error = invoke(verify, run_without_model).exception
    assert isinstance(error, NotFound)
    assert "lineside convert" in str(error)


@pytest.fixture
def run_without_model(tmp_path: Path) -> Path:
    record = RunRecord(
        status="trained",
        name="empty",
        labels=[Label("good", "good"), Label("bad", "defect")],
        input=InputSpec(height=64, width=64),
        family="mobilenet-v2",
        alpha=0.35,
        seed=0,
        data=str(tmp_path / "data"),
        data_sha256="0" * 64,
        recipe={},
    )
    write_record(tmp_path, record)
    return tmp_path
