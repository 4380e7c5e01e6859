"""A run's verified artifact laid out for another program: TensorRT on a Jetson, Triton on a gateway."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from converters.artifact import file_sha256
from converters.calibration import tensors
from converters.tensorrt import measure_ranges, scales, write_recipe
from converters.triton import Port, config_text, read_ports, write_model
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import replacing, sweep, write_whole
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.shape import Shape, read_shape
from toolkit.artifacts import Artifact, open_artifact
from toolkit.conversion import draw_rows
from toolkit.data.images import load
from toolkit.paths import reading
from toolkit.runs import Run

SCHEMA = "1.0"
RECORD = "lineside.json"
Progress = Callable[[str], None]
_SERVER = "loading, answers and throughput in a Triton server: none was run"
_NOT_IN_TRITON = {
    "onnx": [_SERVER],
    "openvino": [_SERVER, "bfloat16: the gate computed in float32, the server's backend may not on a CPU that has it"],
}


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """lineside.json: what was exported. `files` are the sha256 of every other file of the folder, by relative name.

    `model_sha256` is that of the Keras model. `scales` counts the tensors in the calibration cache, measured on
    `calibration_images` training images; `without_scale` were 0 on all of them. `measured` and `not_measured` say what
    is known of the files and what nobody has tried.
    """

    schema: str = SCHEMA
    kind: Literal["tensorrt", "triton"]
    run: str
    artifact: str
    model_sha256: str
    input: InputSpec
    labels: list[str]
    ports: tuple[Port, Port]
    files: dict[str, str]
    calibration_images: int = 0
    scales: int = 0
    without_scale: list[str] = []
    measured: list[str]
    not_measured: list[str]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that was written, and its record."""

    folder: str
    record: ExportRecord


def export_tensorrt(run: Run, folder: Path, *, progress: Progress | None = None) -> Exported:
    """Write what a board builds its TensorRT engine from: the artifact onnx-fp32, scales for int8, a build script.

    The ranges are measured in ONNX Runtime on the images that every int8 artifact of the run is calibrated with.

    Raises:
        NotFound: onnx-fp32 was not converted, or the images are gone.
        ParityFailed: it is not the file that passed its gate.
        BadInput: `folder` holds something else, or a tensor is not finite.
        NotWritable: the disk is full, read-only or forbids it.
    """
    folder = folder.resolve()
    _prepare(folder, "tensorrt")
    artifact, spec = _open(run, "onnx-fp32"), run.record.input
    ports, shape = _ends(run, artifact)
    images = load(run.dataset(), spec, draw_rows(run).calibration)
    if progress is not None:
        progress(f"measuring the ranges of {artifact.name} on {len(images)} training images")
    ranges = measure_ranges(artifact.files[0], tensors(images, spec, channels_first=shape.channels_first))
    scaled = scales(ranges)
    with replacing(folder) as temporary:
        temporary.mkdir()
        names = write_recipe(artifact.files[0], ranges, temporary)
        record = ExportRecord(
            kind="tensorrt",
            run=run.record.name,
            artifact=artifact.name,
            model_sha256=artifact.record.source_sha256,
            input=spec,
            labels=[label.name for label in run.labels],
            ports=ports,
            files={name: file_sha256(temporary / name) for name in names},
            calibration_images=len(images),
            scales=len(scaled),
            without_scale=[name for name in ranges if name not in scaled],
            measured=[_gate(artifact), f"ranges of {len(ranges)} tensors, in ONNX Runtime on training images"],
            not_measured=["the build, an engine's answers, its latency: nothing was run in TensorRT or on a Jetson"],
        )
        _write_record(temporary, record)
    return Exported(folder=str(folder), record=record)


def export_triton(run: Run, repository: Path, artifact_name: str | None = None, name: str | None = None) -> Exported:
    """Write REPOSITORY/<name>, one model of a Triton model repository, which may hold others.

    Args:
        run: a converted run.
        repository: the folder that the server is started with.
        artifact_name: an onnx or openvino artifact; onnx-int8 by default, or onnx-fp32 where that was not converted.
        name: what clients call the model; the run's name by default.

    Raises:
        NotFound: it was not converted.
        ParityFailed: it is not the file that passed its gate.
        BadInput: an artifact without a backend, a name that is none, or the model's folder holds something else.
        NotWritable: the disk is full, read-only or forbids it.
    """
    name = run.record.name if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise BadInput(f"model name {name!r}: letters, digits, '.', '_' and '-' only; give another with --name")
    folder = repository.resolve() / name
    _prepare(folder, "triton")
    artifact = _open(run, artifact_name or ("onnx-int8" if "onnx-int8" in run.artifacts() else "onnx-fp32"))
    labels, spec = [label.name for label in run.labels], run.record.input
    ports, shape = _ends(run, artifact)
    if shape.classes != len(labels):
        raise BadInput(f"{artifact.files[0]}: gives {shape.classes} logits, the run has {len(labels)} classes")
    parameters = {
        "lineside.artifact": artifact.name,
        "lineside.model_sha256": artifact.record.source_sha256,
        "lineside.input": msgspec.json.encode(spec).decode(),
    }
    config = config_text(name, artifact.runtime, artifact.precision, ports, parameters)
    with replacing(folder) as temporary:
        temporary.mkdir()
        names = write_model(artifact.files, config, labels, temporary)
        record = ExportRecord(
            kind="triton",
            run=run.record.name,
            artifact=artifact.name,
            model_sha256=artifact.record.source_sha256,
            input=spec,
            labels=labels,
            ports=ports,
            files={name: file_sha256(temporary / name) for name in names},
            measured=[_gate(artifact)],
            not_measured=_NOT_IN_TRITON[artifact.runtime],
        )
        _write_record(temporary, record)
    return Exported(folder=str(folder), record=record)


def _open(run: Run, name: str) -> Artifact:
    if name not in run.artifacts():
        raise NotFound(f"{run.dir}: {name} is not there; convert with: lineside convert {run.dir} --only {name}")
    return open_artifact(run, name)


def _ends(run: Run, artifact: Artifact) -> tuple[tuple[Port, Port], Shape]:
    """Input and output of the artifact, and that they are one image of the run in and one row of logits out."""
    path = artifact.files[0]
    image, logits = read_ports(path, artifact.runtime)
    return (image, logits), read_shape(path, run.record.input, [image.dims], [logits.dims])


def _gate(artifact: Artifact) -> str:
    parity = artifact.record.parity
    doubt = f"; {parity.doubt}" if parity.doubt else ""
    return f"{artifact.name}: {parity.agreement:.1%} of {parity.images} images get the class that Keras gives{doubt}"


def _write_record(folder: Path, record: ExportRecord) -> None:
    write_whole(folder / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")


def _prepare(folder: Path, kind: str) -> None:
    """Clear what a killed export left beside `folder`, and refuse the folder if it holds more than what an export of
    this kind wrote there, unchanged since: an engine that was built in it, or a config.pbtxt that somebody tuned.
    """
    with reading(folder):
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder}: is a file; name a folder")
        sweep(folder.parent, folder.name)
        record = read_document_file(folder / RECORD, ExportRecord, reads=SCHEMA)
        ours = record.files if record is not None and record.kind == kind else {}
        for path in folder.rglob("*"):
            name = path.relative_to(folder).as_posix()
            if path.is_dir() or (name == RECORD and ours):
                continue
            if name not in ours:
                raise BadInput(f"{folder}: holds {name}, which no export wrote; name a new folder or move it away")
            if file_sha256(path) != ours[name]:
                raise BadInput(f"{path}: was changed since it was exported; name a new folder or move it away")
