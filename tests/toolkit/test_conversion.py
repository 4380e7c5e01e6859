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

from converters.artifact import file_sha256, is_current
from converters.int8_options import Int8Options
from converters.parity import Reference, compare
from device_agent.contract.errors import BadInput, NotFound, NotWritable, ParityFailed
from device_agent.contract.manifest import InputSpec, Label
from toolkit import conversion
from toolkit.commands.convert import convert
from toolkit.commands.verify import verify
from toolkit.conversion import convert_run, draw_rows
from toolkit.data.images import open_dataset
from toolkit.models.files import save_model
from toolkit.runs import Run, RunRecord, write_record, write_split

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
    assert [line.split()[0] for line in first.stdout.splitlines()[:3]] == ["ARTIFACT", "litert-int8", "onnx-fp32"]

    before = (run / "artifacts" / "litert-int8" / "artifact.json").stat().st_mtime_ns
    again = json.loads(invoke(convert, run, "--only", "litert-int8", "--json").stdout)
    assert [each["outcome"] for each in again] == ["current"]
    assert again[0]["artifact"]["parity"]["agreement"] > 0.9
    assert (again[0]["artifact"]["parity"]["images"], again[0]["artifact"]["parity"]["proved"]) == (200, True)
    assert "not proved" not in first.stdout
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


def test_calibration_never_sees_a_judged_image_and_training_images_make_up_for_few(tiny_run: Run) -> None:
    drawn = draw_rows(tiny_run)
    training, validation = set(tiny_run.rows("train")), set(tiny_run.rows("val"))
    assert set(drawn.calibration) <= training and len(drawn.calibration) == 30
    assert set(drawn.judged) == validation
    assert set(drawn.more) == training and len(drawn.more) == 30


def test_the_training_images_that_judge_are_first_those_that_calibration_does_not_see(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "EVIDENCE", 70)
    drawn = draw_rows(tiny_run, Int8Options(calibration=20))
    assert len(drawn.judged) == 60 and len(drawn.more) == 10
    assert not set(drawn.more) & set(drawn.calibration)


def test_calibration_is_drawn_by_the_columns_that_the_manifest_has(tiny_run: Run) -> None:
    def cameras(drawn: np.ndarray) -> dict[tuple[int, str], int]:
        dataset = tiny_run.dataset()
        found = [(int(dataset.labels[row]), dataset.columns["camera"][row]) for row in drawn]
        return {each: found.count(each) for each in set(found)}

    few = draw_rows(tiny_run, Int8Options(calibration=6)).calibration
    assert cameras(few) == {(label, camera): 1 for label in range(3) for camera in ("cam-0", "cam-1")}
    by_day = draw_rows(tiny_run, Int8Options(calibration=15, calibrate_by="time:day")).calibration
    assert len({tiny_run.dataset().columns["time"][row][:10] for row in by_day}) == 5
    with pytest.raises(BadInput, match="no column 'shift' in the manifest; it has class, camera, time"):
        draw_rows(tiny_run, Int8Options(calibrate_by="shift"))


def test_an_int8_artifact_asked_for_otherwise_is_out_of_date(tiny_run: Run) -> None:
    source = file_sha256(tiny_run.model_path)
    for asked in (Int8Options(ranges="percentile"), Int8Options(max_drop=0.03), Int8Options(calibration=64)):
        assert is_current(tiny_run.artifact_dir("onnx-int8"), source)
        assert not is_current(tiny_run.artifact_dir("onnx-int8"), source, asked)
        assert is_current(tiny_run.artifact_dir("onnx-fp32"), source, asked)


def test_options_of_the_command_are_what_is_asked_for(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(run: Run, asked: Int8Options) -> None:
        raise BadInput(repr(asked))

    monkeypatch.setattr(conversion, "_load", stop)
    options = ["--ranges=mse", "--max-drop=2.5", "--calibration=64", "--calibrate-by=camera", "--scheme=shared"]
    error = invoke(convert, tiny_run.dir, "--only", "onnx-int8", *options).exception
    asked = Int8Options(scheme="shared", ranges="mse", max_drop=0.025, calibration=64, calibrate_by="camera")
    assert str(error) == repr(asked)


def test_what_was_tried_is_said_below_the_table(tiny_run: Run) -> None:
    path = tiny_run.artifact_dir("onnx-int8") / "artifact.json"
    figures = {"seconds": 3.0, "f1_drop": 0.04, "recall_drop": 0.1, "agreement": 0.9}
    record = json.loads(path.read_text())
    record["steps"] = [
        {"name": "mse ranges", "costs": "nothing", "failures": ["mean error 0.3"], **figures},
        {"name": "native quantizer", "costs": "other integers", "failures": [], **figures},
    ]
    path.write_text(json.dumps(record))
    shown = invoke(convert, tiny_run.dir, "--only", "onnx-int8").stdout.splitlines()
    assert shown[3:] == [
        "onnx-int8: int8 by native quantizer after 1 other failed; cost: other integers",
        "onnx-int8: mse ranges failed: mean error 0.3",
    ]


def test_too_few_images_are_said_to_prove_nothing(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = invoke(convert, tiny_run.dir, "--only", "onnx-int8").stdout.splitlines()
    assert shown[1].endswith("not proved: 2 of 200 images, macro-F1 0.0 points below Keras")
    assert shown[2].startswith("onnx-int8: agrees on 100.0% (42.5% to 100.0%), recall of class 0 1.000, Keras 1.000")
    images, labels = tiny_run.images("val")
    keras = np.eye(3)[labels] * 5
    monkeypatch.setattr(conversion, "_load", lambda run: (None, images, Reference(images, labels, keras, images[:8])))
    monkeypatch.setattr(conversion, "measure", lambda *given, **_: compare(keras, keras, labels, "fp32"))
    shown = invoke(verify, tiny_run.dir).stdout
    assert "onnx-fp32      good   agrees with Keras on 100.0% of 60 images; not proved: 60 of 200" in shown


def test_verify_refuses_artifacts_of_another_model(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run.model_path.write_bytes(b"another model")
    monkeypatch.setattr(conversion, "_load", lambda run: (None, None, None))
    error = invoke(verify, tiny_run.dir).exception
    assert isinstance(error, ParityFailed) and "was converted from another model" in str(error)


def test_a_model_of_one_answer_is_refused_once_before_anything_is_converted(
    tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_the_last_class(model: object, spec: object, images: np.ndarray) -> np.ndarray:
        return np.linspace(1, 2, len(images))[:, None] * np.arange(3.0)

    monkeypatch.setattr(conversion, "keras_logits", all_of_the_last_class)
    monkeypatch.setattr(Run, "model", lambda run: None)
    result = invoke(convert, tiny_run.dir, "--all", "--force")
    assert isinstance(result.exception, ParityFailed) and "converting" not in result.output
    assert str(result.exception).count(f"predicts {tiny_run.labels[2].name!r} for all") == 1


def test_what_a_killed_conversion_left_is_removed(tiny_run: Run) -> None:
    artifacts = tiny_run.dir / "artifacts"
    for name in (".litert-int8.0a1b2c3d.part", ".scratch.ab_1x2y3.part", ".onnx-fp32.0a1b2c3d.part.old"):
        (artifacts / name).mkdir()
        (artifacts / name / "artifact.json").write_text("{}")
    assert tiny_run.artifacts() == ["onnx-fp32", "onnx-int8"]
    assert [each.outcome for each in convert_run(tiny_run, ["onnx-fp32"])] == ["current"]
    assert sorted(path.name for path in artifacts.iterdir()) == ["onnx-fp32", "onnx-int8"]


def test_intermediate_files_stay_among_the_artifacts(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []

    def stop(run: Run, asked: Int8Options) -> None:
        found.extend((run.dir / "artifacts").glob(".scratch.*.part"))
        raise BadInput("enough")

    monkeypatch.setattr(conversion, "_load", stop)
    with pytest.raises(BadInput, match="enough"):
        convert_run(tiny_run, ["litert-fp32"])
    assert len(found) == 1 and not found[0].exists()


def test_a_place_for_artifacts_that_cannot_be_written_is_named(run_without_model: Path) -> None:
    (run_without_model / "model.keras").write_bytes(b"a Keras model")
    (run_without_model / "artifacts").write_text("a file")
    error = invoke(convert, run_without_model, "--only", "litert-fp32").exception
    assert isinstance(error, NotWritable) and "artifacts: cannot be written" in str(error)


def test_a_model_that_cannot_be_read_is_bad_input(run_without_model: Path) -> None:
    (run_without_model / "model.keras").mkdir()
    error = invoke(convert, run_without_model, "--only", "litert-fp32").exception
    assert isinstance(error, BadInput) and "model.keras: cannot be read" in str(error)


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


def test_the_layer_whose_weights_are_not_finite_is_named(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Layer:
        def __init__(self, name: str, weight: float) -> None:
            self.name, self.weight = name, weight

        def get_weights(self) -> list[np.ndarray]:
            return [np.array([self.weight])]

    model = type("Model", (), {"layers": [Layer("first", 1.0), Layer("logits", np.nan)]})()
    monkeypatch.setattr(Run, "model", lambda self: model)
    monkeypatch.setattr(conversion, "keras_logits", lambda *_: np.full((200, 3), np.nan, np.float32))
    result = invoke(convert, tiny_run.dir, "--only", "onnx-fp32", "--force")
    assert isinstance(result.exception, ParityFailed)
    assert "weights of layer 'logits' are not finite" in str(result.exception)
