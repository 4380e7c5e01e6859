"""One suite over every converter: what it writes passes the gate, or nothing is left."""

from __future__ import annotations

import functools
import importlib.util
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from converters import CONVERTERS, artifact
from converters.artifact import build, check_files, file_sha256, is_current, read_artifact
from converters.golden import images_sha256
from converters.int8_options import Int8Options, Scheme
from converters.keras_export import Export
from converters.parity import Reference, precision_of
from device_agent.contract.errors import BadInput, NotWritable, ParityFailed
from device_agent.runtimes import logits, open_runtime

pytestmark = pytest.mark.slow
SOURCE = "0" * 64
FAMILIES = ("mobilenet-v2", "mobilenet-v3-small")


def _tiny_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).with_name("tiny_models.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Export, Reference]]:
    return functools.cache(lambda family: _make(family, tmp_path_factory.mktemp("scratch")))


@pytest.fixture(scope="module")
def v2(make: Callable[[str], tuple[Export, Reference]]) -> tuple[Export, Reference]:
    return make("mobilenet-v2")


def _make(family: str, scratch: Path) -> tuple[Export, Reference]:
    tiny_models = _tiny_models()
    export = Export(tiny_models.tiny(family), tiny_models.SPEC, tiny_models.textures(150, seed=2)[0], scratch)
    images, labels = tiny_models.textures(150, seed=3)
    reference = Reference(images, labels, export.logits(images), images[:8])
    assert (reference.logits.argmax(axis=1) == labels).mean() > 0.8, "a network that knows nothing proves nothing"
    return export, reference


@pytest.fixture(scope="module")
def built(
    make: Callable[[str], tuple[Export, Reference]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    def once(family: str, name: str) -> Path:
        folder = tmp_path_factory.mktemp(family) / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(artifact, "check_gain", lambda *_: None)  # networks as small as these may gain nothing
            build(name, *make(family), folder, source_sha256=SOURCE)
        return folder

    return functools.cache(once)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", CONVERTERS.names())
def test_artifact_passes_its_gate(
    name: str,
    family: str,
    make: Callable[[str], tuple[Export, Reference]],
    built: Callable[[str, str], Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    export, reference = make(family)
    capfd.readouterr()
    folder = built(family, name)
    assert capfd.readouterr() == ("", "")
    record = read_artifact(folder)
    assert record is not None
    assert (record.runtime, record.precision) == precision_of(name) and record.name == name
    assert record.parity.passed
    assert record.parity.spread > 0.5
    check_files(folder, record)
    assert is_current(folder, SOURCE)
    assert not is_current(folder, "1" * 64)
    runtime = open_runtime(record.runtime, folder / record.files[0], export.spec)
    assert record.golden is not None and record.golden_images_sha256 == images_sha256(reference.golden)
    answers = np.array([logits(runtime, image) for image in reference.golden])
    np.testing.assert_allclose(answers, record.golden.logits, atol=1e-4)


def test_int8_is_smaller_than_float(built: Callable[[str, str], Path]) -> None:
    size = {}
    for name in CONVERTERS.names():
        record = read_artifact(built("mobilenet-v2", name))
        assert record is not None
        size[name] = record.size_bytes
    assert size["litert-int8"] < 0.45 * size["litert-fp32"]
    assert size["onnx-int8"] < 0.5 * size["onnx-fp32"]
    assert size["openvino-fp16"] < 0.7 * size["onnx-fp32"]


@pytest.mark.parametrize("name", CONVERTERS.names())
def test_the_same_model_gives_the_same_bytes(name: str, v2: tuple[Export, Reference], tmp_path: Path) -> None:
    schemes: tuple[Scheme, ...] = ("shared", "native")
    for scheme in schemes if name.endswith("int8") else schemes[:1]:
        records = []
        for time in ("first", "again"):
            scratch = tmp_path / f"{scheme}-{time}"
            scratch.mkdir()
            export = Export(v2[0].model, v2[0].spec, v2[0].calibration, scratch)
            records.append(
                build(name, export, v2[1], scratch / name, source_sha256=SOURCE, asked=Int8Options(scheme=scheme))
            )
        assert records[0].sha256 == records[1].sha256


def test_failed_gate_leaves_nothing(v2: tuple[Export, Reference], tmp_path: Path) -> None:
    export, reference = v2
    wrong = msgspec.structs.replace(reference, logits=reference.logits[:, ::-1].copy())
    with pytest.raises(ParityFailed, match=r"litert-fp32: mean error .* \(150 images\)"):
        build("litert-fp32", export, wrong, tmp_path / "litert-fp32", source_sha256=SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_untrained_model_is_refused(v2: tuple[Export, Reference], tmp_path: Path) -> None:
    export, reference = v2
    flat = msgspec.structs.replace(reference, logits=np.zeros_like(reference.logits))
    with pytest.raises(ParityFailed, match="outputs are the same"):
        build("litert-fp32", export, flat, tmp_path / "litert-fp32", source_sha256=SOURCE)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _no_file_over(size: int) -> Iterator[None]:
    """A full disk, as a process sees it: a write past `size` bytes fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", CONVERTERS.names())
def test_full_disk_is_one_sentence_and_leaves_nothing(
    name: str, v2: tuple[Export, Reference], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotWritable) as caught, _no_file_over(30_000):
        build(name, *v2, tmp_path / name, source_sha256=SOURCE)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_changed_file_is_noticed(v2: tuple[Export, Reference], tmp_path: Path) -> None:
    folder = tmp_path / "onnx-fp32"
    record = build("onnx-fp32", *v2, folder, source_sha256=SOURCE)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    assert file_sha256(folder / "model.onnx") != record.sha256["model.onnx"]
    assert not is_current(folder, SOURCE)
    with pytest.raises(ParityFailed, match="not the file that was converted"):
        check_files(folder, record)


def test_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "artifact.json").write_text('{"schema": "1.0", "name": 3}')
    with pytest.raises(BadInput, match=r"artifact\.json"):
        read_artifact(tmp_path)
    assert not is_current(tmp_path, SOURCE)


def test_frozen_graph_holds_the_weights(v2: tuple[Export, Reference]) -> None:
    export, _ = v2
    nodes: Any = export.frozen.graph.as_graph_def().node
    assert sum(node.ByteSize() for node in nodes if node.op == "Const") > 1_000_000
    assert not [node for node in nodes if node.op == "ReadVariableOp"]
