"""`lineside export`: the verified artifact in a folder that says what it is, and no folder of somebody else touched."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import toolkit.export
from device_agent.contract.errors import BadInput, NotFound, ParityFailed
from toolkit.commands.export import export
from toolkit.conversion import draw_rows
from toolkit.data.images import load
from toolkit.export import RECORD, ExportRecord, export_tensorrt, export_triton
from toolkit.runs import Run


def record_of(folder: Path) -> ExportRecord:
    """lineside.json, after a check that it names every other file with its digest."""
    record = msgspec.json.decode((folder / RECORD).read_bytes(), type=ExportRecord)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*record.files, RECORD}
    for name, digest in record.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    return record


def test_tensorrt_gets_the_float_model_and_the_calibration_images_ranges(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "jetson"
    done = export_tensorrt(tiny_run, folder)
    record = record_of(folder)
    assert done.record == record and (record.kind, record.artifact) == ("tensorrt", "onnx-fp32")
    assert (folder / "model.onnx").read_bytes() == (tiny_run.artifact_dir("onnx-fp32") / "model.onnx").read_bytes()
    assert os.access(folder / "build.sh", os.X_OK)
    assert record.input == tiny_run.record.input and record.labels == ["bright", "dark", "good"]
    assert "nothing was run in TensorRT" in record.not_measured[0]

    images = load(tiny_run.dataset(), tiny_run.record.input, draw_rows(tiny_run).calibration)
    seen = images / 127.5 - 1.0
    means = np.abs(seen.mean(axis=(1, 2, 3)))
    assert record.calibration_images == len(images) and np.ptp(means) > 0.1
    lines = (folder / "calibration.cache").read_text().splitlines()[1:]
    found = {name: 127 * struct.unpack("!f", bytes.fromhex(bits))[0] for name, bits in (x.split(": ") for x in lines)}
    assert found["image"] == pytest.approx(np.abs(seen).max(), rel=1e-5)
    assert found["mean"] == found["row"] == pytest.approx(means.max(), rel=1e-4)
    assert list(found) == ["image", "mean", "row", "product", "logits"] and record.scales == 5


def test_triton_gets_int8_where_it_was_converted(tiny_run: Run, tmp_path: Path) -> None:
    export_triton(tiny_run, tmp_path / "models")
    folder = tmp_path / "models" / "tiny"
    record = record_of(folder)
    assert (record.kind, record.artifact) == ("triton", "onnx-int8")
    assert (folder / "1" / "model.onnx").read_bytes() == (
        tiny_run.artifact_dir("onnx-int8") / "model.onnx"
    ).read_bytes()
    assert (folder / "labels.txt").read_text().split() == ["bright", "dark", "good"]
    config = (folder / "config.pbtxt").read_text()
    assert 'name: "tiny"\nbackend: "onnxruntime"\nmax_batch_size: 0\n' in config
    assert "dims: [1, 8, 8, 3]" in config and "dims: [1, 3]" in config
    export_triton(tiny_run, tmp_path / "models", "onnx-fp32", "tiny-float")  # the repository has room for others
    assert record_of(tmp_path / "models" / "tiny-float").artifact == "onnx-fp32"
    assert record_of(folder) == record


def test_the_same_folder_is_written_again_and_no_other_is(tiny_run: Run, tmp_path: Path) -> None:
    folder, models = tmp_path / "jetson", tmp_path / "models"
    folder.mkdir()  # an empty one is fine
    first = export_tensorrt(tiny_run, folder)
    assert export_tensorrt(tiny_run, folder) == first
    (folder / "engine-int8.plan").write_text("built here")
    with pytest.raises(BadInput, match=r"holds engine-int8.plan, which no export wrote"):
        export_tensorrt(tiny_run, folder)
    assert (folder / "engine-int8.plan").exists()
    export_triton(tiny_run, models)
    export_triton(tiny_run, models)
    tuned = models / "tiny" / "config.pbtxt"
    tuned.write_text(tuned.read_text().replace("count: 1", "count: 4"))
    with pytest.raises(BadInput, match=r"config.pbtxt: was changed since it was exported"):
        export_triton(tiny_run, models)
    with pytest.raises(BadInput, match="which no export wrote"):  # ours, but of the other kind
        export_tensorrt(tiny_run, models / "tiny")
    with pytest.raises(BadInput, match="is a file"):
        export_tensorrt(tiny_run, tuned)


def test_what_a_killed_export_left_is_no_model_of_the_repository(tiny_run: Run, tmp_path: Path) -> None:
    left, other = tmp_path / ".tiny.0123abcd.part", tmp_path / ".other.0123abcd.part"
    left.mkdir()
    other.mkdir()
    export_triton(tiny_run, tmp_path)
    assert not left.exists() and other.exists()


def test_a_name_that_the_system_refuses_is_one_line(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="file name too long"):
        export_tensorrt(tiny_run, tmp_path / ("a" * 300))


def test_a_failure_leaves_what_was_there(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out" / "jetson"
    export_tensorrt(tiny_run, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(toolkit.export, "_write_record", fail)
    with pytest.raises(KeyboardInterrupt):
        export_tensorrt(tiny_run, folder)
    with pytest.raises(KeyboardInterrupt):
        export_triton(tiny_run, tmp_path / "out")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["jetson"]


def test_only_what_passed_its_gate_is_exported(tiny_run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"openvino-fp16 is not there; .* --only openvino-fp16"):
        export_triton(tiny_run, tmp_path, "openvino-fp16")
    for name in ("../up", "", "a b", ".hidden"):
        with pytest.raises(BadInput, match="--name"):
            export_triton(tiny_run, tmp_path / "models", name=name)
    model = tiny_run.artifact_dir("onnx-fp32") / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ParityFailed, match="is not the file that was converted"):
        export_tensorrt(tiny_run, tmp_path / "jetson")
    assert not (tmp_path / "jetson").exists() and not (tmp_path / "models").exists()


def test_the_command(tiny_run: Run, tmp_path: Path) -> None:
    both = ["--tensorrt", str(tmp_path / "jetson"), "--triton", str(tmp_path / "models"), "--name", "steel"]
    done = CliRunner().invoke(export, [str(tiny_run.dir), *both, "--json"], catch_exceptions=False)
    folders = [one["folder"] for one in json.loads(done.stdout)]
    assert folders == [str(tmp_path / "jetson"), str(tmp_path / "models" / "steel")]
    assert "measuring the ranges" in done.stderr
    table = CliRunner().invoke(export, [str(tiny_run.dir), *both], catch_exceptions=False).stdout
    assert "not measured" in table and "image float32 1 x 8 x 8 x 3" in table and "5, from 30 training" in table
    for wrong in ([], ["--tensorrt", str(tmp_path / "x"), "--artifact", "onnx-int8"]):
        assert CliRunner().invoke(export, [str(tiny_run.dir), *wrong]).exit_code == 2
