"""A run becomes a bundle: the same bytes each time, and everything in it answers as it says."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput, NotFound, ParityFailed, TrustFailed
from device_agent.runtimes import logits, open_runtime
from device_agent.runtimes.onnx import OnnxRuntime
from device_agent.unpacking import unpack
from profiles import registry
from profiles.schema import DeviceProfile
from toolkit.commands.inspect import inspect
from toolkit.commands.pack import pack
from toolkit.evaluation.scores import read_evaluation
from toolkit.packing import pack_run
from toolkit.runs import Run, open_run


@pytest.fixture
def profile(tiny_profiles: Path) -> DeviceProfile:
    return registry.load("tiny", tiny_profiles)


def test_the_device_finds_what_it_needs(tiny_run: Run, profile: DeviceProfile, tmp_path: Path) -> None:
    packed = pack_run(tiny_run, profile)
    bundle = read_bundle(Path(packed.path))
    manifest = bundle.manifest
    assert [f"{one.runtime}-{one.precision}" for one in manifest.artifacts] == ["onnx-int8", "onnx-fp32"]
    assert manifest.run == profile.run and manifest.labels == tiny_run.labels
    folder = unpack(read_bundle(Path(packed.path)), tmp_path / "store")
    for artifact in manifest.artifacts:
        runtime = open_runtime(artifact.runtime, folder / artifact.files[0].name, artifact.input)
        answers = np.array([logits(runtime, image) for image in bundle.golden])
        wanted = np.array(artifact.golden.logits)
        assert np.ptp(wanted, axis=0).max() > 100 * artifact.golden.tolerance / 10 > 0
        assert np.abs(answers - wanted).max() < artifact.golden.tolerance / 100
    assert [one.model_id.hex() for one in manifest.artifacts] == packed.model_ids
    assert len(set(packed.model_ids)) == 2


def test_it_carries_the_evaluation_and_the_lineage(tiny_run: Run, profile: DeviceProfile) -> None:
    manifest = read_bundle(Path(pack_run(tiny_run, profile).path)).manifest
    for artifact in manifest.artifacts:
        evaluation = read_evaluation(tiny_run, f"{artifact.runtime}-{artifact.precision}")
        assert evaluation is not None
        assert (artifact.temperature, artifact.baseline) == (evaluation.temperature, evaluation.baseline)
        assert artifact.metrics["accuracy"] == pytest.approx(evaluation.accuracy, abs=1e-6)
        assert artifact.baseline.prevalence == [0.005, 0.005, 0.99]
    assert manifest.lineage is not None
    assert manifest.lineage.data_sha256 == tiny_run.record.data_sha256 and manifest.lineage.packages == {"onnx": "1"}


def test_the_golden_images_show_every_class(tiny_run: Run, profile: DeviceProfile) -> None:
    bundle = read_bundle(Path(pack_run(tiny_run, profile).path))
    said = np.array(bundle.manifest.artifacts[1].golden.logits).argmax(axis=1)
    assert bundle.golden.shape == (8, 8, 8, 3) and set(said) == {0, 1, 2}


def test_the_same_bytes_at_another_time_and_umask_and_place(
    tiny_run: Run, profile: DeviceProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_run.dir, elsewhere)
    first = Path(pack_run(tiny_run, profile).path).read_bytes()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    umask = os.umask(0o077)
    try:
        again = Path(pack_run(tiny_run, profile, tmp_path / "again.lineside").path)
        fresh = Path(pack_run(open_run(elsewhere), profile).path)
    finally:
        os.umask(umask)
    assert again.read_bytes() == first
    assert fresh.read_bytes() == first


def test_another_prevalence_is_another_model(tiny_run: Run, profile: DeviceProfile) -> None:
    first = pack_run(tiny_run, profile)
    stated = msgspec.structs.replace(tiny_run.record, prevalence=[0.1, 0.1, 0.8])
    second = pack_run(Run(tiny_run.dir, stated), profile)
    assert not set(first.model_ids) & set(second.model_ids)


def test_what_is_missing_names_the_command(tiny_run: Run) -> None:
    with pytest.raises(
        NotFound, match=r"litert-fp32, litert-int8 not converted; convert with: lineside convert .* --for"
    ):
        pack_run(tiny_run, registry.load("raspberry-pi-4"))
    assert not list(tiny_run.dir.glob("*.lineside"))


def test_known_answers_are_those_of_the_conversion(
    tiny_run: Run, profile: DeviceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path(pack_run(tiny_run, profile).path).read_bytes()
    monkeypatch.setattr(OnnxRuntime, "invoke", lambda self, tensor: pytest.fail("nothing is to be computed"))
    assert Path(pack_run(tiny_run, profile).path).read_bytes() == first


def test_other_golden_images_than_at_the_conversion_are_refused(
    tiny_run: Run, profile: DeviceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_run(tiny_run, profile)
    images = tiny_run.golden(8)
    monkeypatch.setattr(Run, "golden", lambda self, count: images[::-1])
    with pytest.raises(BadInput, match="no known answers for the images as they are now; convert again"):
        pack_run(tiny_run, profile)


def test_what_verify_would_refuse_is_not_packed(tiny_run: Run, profile: DeviceProfile) -> None:
    pack_run(tiny_run, profile)
    model, record = (tiny_run.artifact_dir("onnx-fp32") / name for name in ("model.onnx", "artifact.json"))
    kept = {path: path.read_bytes() for path in (model, record, tiny_run.model_path)}
    failed = msgspec.json.decode(kept[record])
    failed["parity"]["failures"] = ["mean error 3 of the spread, allowed 0.2"]
    for path, content, said in (
        (model, b"x", "is not the file that was converted"),
        (model, (tiny_run.artifact_dir("onnx-int8") / "model.onnx").read_bytes(), "is not the file that was converted"),
        (tiny_run.model_path, b"another Keras model", "was converted from another model"),
        (record, msgspec.json.encode(failed), "mean error 3 of the spread"),
    ):
        path.write_bytes(content)
        with pytest.raises(ParityFailed, match=said):
            pack_run(tiny_run, profile, tiny_run.dir / "second.lineside")
        path.write_bytes(kept[path])
    assert not (tiny_run.dir / "second.lineside").exists()


def test_what_is_not_proved_is_said(tiny_run: Run, profile: DeviceProfile) -> None:
    said: list[str] = []
    pack_run(tiny_run, profile, progress=said.append)
    doubts = [line for line in said if "not proved: 2 of 200 images" in line]
    assert [line.partition(":")[0] for line in doubts] == list(profile.artifacts)


def test_pack_and_inspect_as_commands(tiny_run: Run, tiny_profiles: Path) -> None:
    arguments = [str(tiny_run.dir), "--for", "tiny", "--profiles", str(tiny_profiles), "--json"]
    packed = json.loads(CliRunner().invoke(pack, arguments, catch_exceptions=False).stdout)
    shown = CliRunner().invoke(inspect, [packed["path"]], catch_exceptions=False).stdout
    for text in (packed["sha256"], *packed["model_ids"], "digests verified", "good (good)", "dark (defect)", "onnx 1"):
        assert text in shown
    document = json.loads(CliRunner().invoke(inspect, [packed["path"], "--json"]).stdout)
    assert document["sha256"] == packed["sha256"] and document["manifest"]["profile"] == "tiny"
    assert packed["path"].endswith("tiny-tiny.lineside")


def test_inspect_refuses_a_damaged_one(tiny_run: Run, profile: DeviceProfile) -> None:
    path = Path(pack_run(tiny_run, profile).path)
    content = bytearray(path.read_bytes())
    for position in np.linspace(0, len(content) - 1, 200).astype(int):
        content[position] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(TrustFailed):
            read_bundle(path)
        content[position] ^= 0x10
    path.write_bytes(content[:-3])
    result = CliRunner().invoke(inspect, [str(path)])
    assert isinstance(result.exception, TrustFailed) and result.exception.exit_code == 6
