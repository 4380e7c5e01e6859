"""`lineside verify` with a certificate: what it writes, finds and refuses. Recorded numbers stand in for Keras."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from converters.certificate import Certificate, read_certificate
from device_agent.contract.errors import BadInput, NotFound, ParityFailed, TrustFailed
from device_agent.contract.files import write_whole
from device_agent.runtimes import logits
from profiles.registry import load as load_profile
from toolkit import certification
from toolkit.artifacts import open_artifact
from toolkit.certification import certify
from toolkit.commands.verify import verify
from toolkit.conversion import draw_rows
from toolkit.packing import pack_run
from toolkit.runs import Run, write_record


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(verify, [str(each) for each in arguments])


@pytest.fixture
def certificate(tiny_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the tiny run; its fp32 artifact gives the answers of Keras."""

    def answers(run: Run, fitted: Any) -> Any:
        model = open_artifact(run, "onnx-fp32").open(run.record.input)
        return np.array([logits(model, image) for image in fitted])

    monkeypatch.setattr(certification, "_keras", answers)
    certify(tiny_run, tmp_path / "certificate")
    return tmp_path / "certificate"


def rewrite(folder: Path, **fields: Any) -> None:
    """Alter the certificate and seal it again, as one that was written so."""
    from converters import certificate as module

    altered = msgspec.structs.replace(read_certificate(folder).certificate, **fields)
    sealed = msgspec.structs.replace(altered, sha256=module._seal(altered))
    write_whole(folder / "certificate.json", msgspec.json.encode(sealed))


def test_the_certificate_holds_the_pictures_as_they_were_taken(certificate: Path, tiny_run: Run) -> None:
    found, frames, fitted = read_certificate(certificate)
    assert len(frames) == len(found.shots) == 16 and fitted.shape == (16, 8, 8, 3)
    assert {frame.shape for frame in frames} == {(16, 16, 3)}
    dataset, rows = tiny_run.dataset(), tiny_run.golden_rows(16)
    for frame, row in zip(frames, rows, strict=True):
        assert np.array_equal(frame, cv2.imread(str(dataset.dir / dataset.files[row]))[:, :, ::-1])
    assert [shot.label for shot in found.shots] == dataset.labels[rows].tolist() and len(set(dataset.labels[rows])) == 3
    assert [each.name for each in found.answers] == ["onnx-fp32", "onnx-int8"]
    assert found.answers[0].tolerance < found.answers[1].tolerance
    assert found.packages["numpy"] == np.__version__ and found.instruction_set
    assert np.ptp(np.array(found.keras), axis=0).max() > 10


def test_a_run_its_artifact_and_its_bundle_pass(certificate: Path, tiny_run: Run, tiny_profiles: Path) -> None:
    packed = pack_run(tiny_run, load_profile("tiny", tiny_profiles))
    for what in (tiny_run.dir, tiny_run.artifact_dir("onnx-int8"), packed.path):
        result = invoke(what, "--certificate", certificate, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert {each["name"] for each in found} <= {"onnx-fp32", "onnx-int8"}
        assert all(each["same_files"] and each["model_error"] < 1e-4 for each in found)
        assert all(each["preprocess_steps"] == 0 and each["frames"] == 16 for each in found)
    one = invoke(tiny_run.dir, "--certificate", certificate, "--artifact", "onnx-int8")
    assert one.stdout.splitlines()[0].startswith("onnx-int8      good") and "onnx-fp32" not in one.stdout


def test_it_is_said_that_the_preprocessing_differs(certificate: Path, tiny_run: Run) -> None:
    other = msgspec.structs.replace(tiny_run.record.input, resize="bilinear", scale=1 / 255)
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, input=other))
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, ParityFailed)
    assert "preprocessing differs: resize bilinear, certified area; scale" in result.stderr
    assert "the model differs" not in result.stderr


def test_a_device_that_resizes_in_another_way_is_found(
    certificate: Path, tiny_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from device_agent import preprocess

    monkeypatch.setattr(preprocess, "_opencv", lambda: None)
    assert invoke(tiny_run.dir, "--certificate", certificate).exit_code == 0  # the form without OpenCV is the same
    monkeypatch.setattr(preprocess, "_resize", lambda frame, spec: frame[::2, ::2])  # nearest
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, ParityFailed) and result.exception.exit_code == 4
    assert "onnx-fp32: preprocessing differs by up to " in result.stderr and "the model differs" not in result.stderr


def test_it_is_said_that_the_model_differs(certificate: Path, tiny_run: Run, put_artifact: Any) -> None:
    content = tiny_run.artifact_dir("onnx-fp32").joinpath("model.onnx").read_bytes()
    assert content.count(b"weight") > 0
    weights = np.float32(30) * np.array([200 / 127.5 - 1], np.float32)
    raw = np.float32(weights).tobytes()
    assert raw in content
    put_artifact(tiny_run, "onnx-fp32", content.replace(raw, (np.float32(0.5) * weights).astype(np.float32).tobytes()))
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, ParityFailed)
    assert "onnx-fp32: the model differs from Keras on the certificate's own preprocessed images" in result.stderr
    assert "preprocessing differs" not in result.stderr and "onnx-int8:" not in result.stderr


def test_a_model_of_other_classes_or_size_is_told(certificate: Path, tiny_run: Run) -> None:
    other = msgspec.structs.replace(tiny_run.record.input, height=12)
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, input=other))
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, ParityFailed) and "height 12, certified 8" in result.stderr
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, labels=tiny_run.labels[::-1]))
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, ParityFailed) and "labels differ: good, dark, bright" in result.stderr


@pytest.mark.parametrize("file", ["certificate.json", "frames/003.png", "fitted/000.png"])
def test_one_changed_byte_is_refused(certificate: Path, tiny_run: Run, file: str) -> None:
    content = bytearray((certificate / file).read_bytes())
    place = content.index(b'"shots"') + 200 if file.endswith("json") else len(content) // 2
    content[place] = ord("7") if content[place] != ord("7") else ord("8")
    (certificate / file).write_bytes(content)
    result = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(result.exception, TrustFailed | BadInput), result.exception
    assert str(certificate / file) in str(result.exception)


def test_what_contradicts_itself_or_is_gone_is_refused(certificate: Path, tiny_run: Run) -> None:
    (certificate / "frames" / "001.png").unlink()
    with pytest.raises(TrustFailed, match=r"001\.png: cannot be read"):
        read_certificate(certificate)
    shutil.rmtree(certificate)
    missing = invoke(tiny_run.dir, "--certificate", certificate)
    assert isinstance(missing.exception, NotFound) and "--write-certificate" in str(missing.exception)


def test_a_certificate_with_rows_too_few_is_refused(certificate: Path) -> None:
    rewrite(certificate, keras=[[0.0, 1.0, 2.0]])
    with pytest.raises(BadInput, match="keras must have 16 rows of 3 logits"):
        read_certificate(certificate)


def test_a_later_major_version_is_refused(certificate: Path) -> None:
    rewrite(certificate, schema="2.0")
    with pytest.raises(BadInput, match=r"schema 2\.0"):
        read_certificate(certificate)


def test_a_folder_of_something_else_is_not_replaced(certificate: Path, tiny_run: Run, tmp_path: Path) -> None:
    before = (certificate / "certificate.json").read_bytes()
    certify(tiny_run, certificate)
    assert (certificate / "certificate.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is no certificate"):
        certify(tiny_run, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_options_that_exclude_each_other(tiny_run: Run, tmp_path: Path) -> None:
    assert invoke(tiny_run.dir, "--certificate", tmp_path, "--write-certificate", tmp_path).exit_code == 2
    assert invoke(tiny_run.dir, "--artifact", "onnx-fp32").exit_code == 2
    unknown = invoke(tiny_run.dir, "--certificate", tmp_path / "no")
    assert isinstance(unknown.exception, NotFound)


SCRIPT = """
import sys
from toolkit.commands.verify import verify
verify.main(sys.argv[1:], standalone_mode=False)
print(sorted({"tensorflow", "keras", "sklearn", "onnx"} & set(sys.modules)), file=sys.stderr)
"""


def test_a_device_needs_neither_tensorflow_nor_the_pictures(certificate: Path, tiny_run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "device"
    shutil.copytree(tiny_run.artifact_dir("onnx-int8"), moved)
    shutil.rmtree(tiny_run.dir)
    command = [sys.executable, "-c", SCRIPT, str(moved), "--certificate", str(certificate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "[]" and "good" in done.stdout


def test_the_certificate_is_a_document_that_others_can_read(certificate: Path) -> None:
    document = json.loads((certificate / "certificate.json").read_text())
    assert document["input"]["height"] == 8 and len(document["keras"]) == 16
    assert msgspec.convert(document, Certificate).sha256 == document["sha256"]


def test_training_images_of_one_class_cannot_calibrate(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.asarray(tiny_run.dataset().labels)
    rows = {"train": np.flatnonzero(labels == 1)[:8], "val": np.arange(20)}
    monkeypatch.setattr(Run, "rows", lambda self, split: rows[split])
    with pytest.raises(BadInput, match=r"all 8 training images are of class 'dark'.* a split that has every class"):
        draw_rows(tiny_run)
