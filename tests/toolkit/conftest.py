"""A run small enough to be made in a test: images told apart by brightness, and an ONNX model that does so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from converters import RECIPE
from converters.artifact import RECORD, ArtifactRecord, file_sha256
from converters.golden import GOLDEN_IMAGES, golden_answers, images_sha256
from converters.parity import compare, precision_of
from device_agent.contract.errors import LinesideError
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec
from toolkit.data.images import open_dataset
from toolkit.runs import Run, RunRecord, open_run, write_record, write_split

CLASSES = {"bright": 200, "good": 128, "dark": 55}
PROFILE = """
id = "tiny"
extends = "generic-x86-64"
name = "Tiny"
artifacts = ["onnx-int8", "onnx-fp32"]
"""


def _draw(folder: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    lines = ["file,class,group,split,camera,time"]
    for name, level in CLASSES.items():
        (folder / name).mkdir(parents=True)
        for number in range(40):
            image = np.clip(rng.normal(level + rng.normal(0, 28), 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name / f"{number}.png"), image)
            split = ("train", "val", "val", "test")[number % 4]
            camera, time = f"cam-{number // 4 % 2}", f"2026-11-{1 + number // 8:02d}T{number % 24:02d}:00:00"
            lines.append(f"{name}/{number}.png,{name},{name}-{number // 4}-{split},{split},{camera},{time}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def _onnx(sharpness: float, names: list[str]) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    centres = np.array([CLASSES[name] / 127.5 - 1 for name in names], np.float32)
    constants = {
        "axes": np.array([1, 2, 3], np.int64),
        "weight": (sharpness * centres)[None].astype(np.float32),
        "bias": (-sharpness * centres**2 / 2).astype(np.float32),
        "shape": np.array([1, 1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["row"]),
        helper.make_node("MatMul", ["row", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, len(names)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def add_artifact(run: Run, name: str, content: bytes) -> None:
    """An artifact as `lineside convert` leaves it, its known answers taken where a runtime can open it."""
    runtime, precision = precision_of(name)
    folder, images = run.artifact_dir(name), run.golden(GOLDEN_IMAGES)
    write_whole(folder / "model.onnx", content)
    try:
        golden = golden_answers(runtime, precision, folder / "model.onnx", run.record.input, images)
    except LinesideError:
        golden = None
    keras = np.eye(2)[[0, 1]]
    record = ArtifactRecord(
        name=name,
        runtime=runtime,
        precision=precision,
        files=["model.onnx"],
        sha256={"model.onnx": file_sha256(folder / "model.onnx")},
        size_bytes=len(content),
        source_sha256=file_sha256(run.model_path),
        recipe=RECIPE,
        calibration_images=0,
        seconds=0.0,
        parity=compare(keras, keras, np.array([0, 1]), precision),
        golden=golden,
        golden_images_sha256=images_sha256(images),
    )
    write_whole(folder / RECORD, msgspec.json.encode(record))


@pytest.fixture
def put_artifact() -> Callable[[Run, str, bytes], None]:
    """`add_artifact`, for tests that put another content in place."""
    return add_artifact


@pytest.fixture(scope="session")
def _tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("tiny")
    _draw(folder / "data")
    dataset = open_dataset(folder / "data")
    record = RunRecord(
        status="trained",
        name="tiny",
        labels=dataset.label_list(),
        input=InputSpec(height=8, width=8),
        family="tiny",
        alpha=1.0,
        seed=0,
        data=str(folder / "data"),
        data_sha256=dataset.sha256(),
        recipe={"epochs": 0},
        packages={"onnx": "1"},
        prevalence=[0.005, 0.005, 0.99],
    )
    write_record(folder / "run", record)
    assert dataset.splits is not None
    write_split(folder / "run" / "split.csv", dataset, dataset.splits)
    run = open_run(folder / "run")
    write_whole(run.model_path, b"a Keras model")
    add_artifact(run, "onnx-fp32", _onnx(30.0, dataset.names))
    add_artifact(run, "onnx-int8", _onnx(29.0, dataset.names))
    return folder / "run"


@pytest.fixture
def tiny_run(_tiny_run: Path, tmp_path: Path) -> Run:
    """A run folder of its own with the artifacts onnx-fp32 and onnx-int8, 3 classes, 60 validation images."""
    shutil.copytree(_tiny_run, tmp_path / "run")
    return open_run(tmp_path / "run")


@pytest.fixture
def tiny_profiles(tmp_path: Path) -> Path:
    """Folder with the profile "tiny": onnx-int8, then onnx-fp32."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "tiny.toml").write_text(PROFILE)
    return folder
