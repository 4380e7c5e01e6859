"""An artifact on disk: a folder of model files with artifact.json, which is written last."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from converters import CONVERTERS, RECIPE, Progress
from converters.gain import check_gain
from converters.golden import golden_answers, images_sha256
from converters.int8_options import DEFAULT, Int8Options
from converters.keras_export import Export
from converters.ladder import Step, climb
from converters.parity import ParityReport, Precision, Reference, precision_of
from converters.scheme import SchemeReport
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, LinesideError, NotFound, ParityFailed
from device_agent.contract.files import replacing, write_whole
from device_agent.contract.manifest import Golden

SCHEMA = "1.0"
RECORD = "artifact.json"


class ArtifactRecord(msgspec.Struct, frozen=True, kw_only=True):
    """artifact.json. `files` lie beside it, the first is the one that the runtime opens; `sha256` are theirs.

    `source_sha256` is the digest of the Keras model's file and `recipe` the converters' version: when either is
    another, or an int8 one was `asked` for otherwise, the artifact is out of date. `steps` were tried for int8, and the
    last made the files; `seconds` is what they took, the gate not counted. `golden` are the answers that the files gave
    here for the images of that digest.
    """

    schema: str = SCHEMA
    name: str
    runtime: str
    precision: Precision
    files: list[str]
    sha256: dict[str, str]
    size_bytes: int
    source_sha256: str
    recipe: int
    calibration_images: int
    seconds: float
    parity: ParityReport
    golden: Golden | None = None
    golden_images_sha256: str = ""
    scheme: SchemeReport | None = None
    asked: Int8Options = DEFAULT
    steps: list[Step] = []

    @property
    def max_drop(self) -> float | None:
        """Macro-F1, 0 to 1, that was allowed to be lost; None for what the gate allows."""
        return self.asked.max_drop if self.precision == "int8" else None


def build(
    name: str,
    export: Export,
    reference: Reference,
    folder: Path,
    *,
    source_sha256: str,
    asked: Int8Options = DEFAULT,
    progress: Progress | None = None,
) -> ArtifactRecord:
    """Convert, pass the gate, and only then put the artifact into `folder`, wholly; what was there is replaced.

    An int8 artifact that fails its gate is made otherwise, step by step; `progress` is told the steps after the first.

    Raises:
        BadInput: no such converter.
        ParityFailed: the gate objects; nothing new is left behind.
        NotWritable: the disk is full, read-only or forbids it.
    """
    CONVERTERS.load(name)
    runtime, precision = precision_of(name)
    with replacing(folder) as temporary:
        temporary.mkdir()
        made = climb(name, export, reference, temporary, asked, progress=progress)
        files = made.files
        check_gain(name, export, files, reference.images[0])
        record = ArtifactRecord(
            name=name,
            runtime=runtime,
            precision=precision,
            files=[path.name for path in files],
            sha256={path.name: file_sha256(path) for path in files},
            size_bytes=sum(path.stat().st_size for path in files),
            source_sha256=source_sha256,
            recipe=RECIPE,
            calibration_images=len(export.calibration) if precision == "int8" else 0,
            seconds=round(sum(step.seconds for step in made.steps), 2),
            parity=made.parity,
            golden=golden_answers(runtime, precision, files[0], export.spec, reference.golden),
            golden_images_sha256=images_sha256(reference.golden),
            scheme=made.scheme,
            asked=asked,
            steps=made.steps if precision == "int8" else [],
        )
        write_whole(temporary / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    return record


def read_artifact(folder: Path) -> ArtifactRecord | None:
    """The record of the artifact in `folder`, None where none is.

    Raises:
        BadInput: artifact.json is damaged.
        UnknownSchema: written by a later major version.
    """
    return read_document_file(folder / RECORD, ArtifactRecord, reads=SCHEMA)


def check_artifact(folder: Path, source_sha256: str) -> ArtifactRecord:
    """The record of the artifact in `folder`, whose files are those that were made from that model and passed the gate.

    Raises:
        NotFound: no artifact there, or a file is gone.
        BadInput, UnknownSchema: as for `read_artifact`.
        ParityFailed: made from another model, failed its gate, or a file has another content.
    """
    record = read_artifact(folder)
    if record is None:
        raise NotFound(f"{folder}: artifact.json is gone; convert again")
    if record.source_sha256 != source_sha256:
        raise ParityFailed(f"{folder}: was converted from another model; convert again")
    if not record.parity.passed:
        raise ParityFailed(f"{folder}: {'; '.join(record.parity.failures)}; convert again with --force")
    check_files(folder, record)
    return record


def is_current(folder: Path, source_sha256: str, asked: Int8Options = DEFAULT) -> bool:
    """Whether the artifact in `folder` was made from that model by these converters as now asked for, and is
    undamaged."""
    try:
        record = check_artifact(folder, source_sha256)
        return record.recipe == RECIPE and (record.precision != "int8" or record.asked == asked)
    except LinesideError:
        return False


def check_files(folder: Path, record: ArtifactRecord) -> None:
    """Refuse an artifact whose files are not those that were written.

    Raises:
        NotFound: a file is gone.
        BadInput: none is named.
        ParityFailed: a file has another content.
    """
    if not record.files:
        raise BadInput(f"{folder / RECORD}: names no files; convert again with --force")
    for name in record.files:
        if not (folder / name).is_file():
            raise NotFound(f"{folder / name}: the file is gone; convert again with --force")
        if file_sha256(folder / name) != record.sha256.get(name):
            raise ParityFailed(f"{folder / name}: is not the file that was converted; convert again with --force")


def remove(folder: Path) -> None:
    """Remove an artifact, its record first, so that what is left of an interrupted removal is none."""
    (folder / RECORD).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Digest of a file's content, in hexadecimal.

    Raises:
        NotFound: no such file.
        BadInput: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
