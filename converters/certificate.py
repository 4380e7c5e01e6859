"""The parity certificate: what a model has to answer, in a folder that any device or build can be held against.

DIR/certificate.json       Certificate; its `sha256` is over the rest of it
DIR/frames/000.png         pictures as they come from a camera, of their own sizes, before any preprocessing
DIR/fitted/000.png         the same after preprocessing, as the model gets them (its channel order in the place of RGB)

It holds all that is needed, so neither TensorFlow nor the data set has to be where it is checked.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from converters.golden import TOLERANCE, images_sha256
from converters.instruction_set import instruction_set
from converters.parity import GATES, Gate, Precision
from device_agent import preprocess
from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound, TrustFailed
from device_agent.contract.files import replacing, write_whole
from device_agent.contract.manifest import InputSpec, Label, Sha256
from device_agent.contract.optional import require
from device_agent.frames.picture import read_picture
from device_agent.measure import device_name

SCHEMA = "1.0"
RECORD = "certificate.json"
STEPS = 1
"""Largest difference of a preprocessed value, of 255, that counts as equal: that of the resize's two forms."""
FRAMEWORKS = ("tensorflow", "tensorflow-cpu", "keras")
PACKAGES = ("lineside", "numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "openvino", *FRAMEWORKS)
Image = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One picture: its true class, its size, and the sha256 of its files and of the bytes (h, w, c) after
    preprocessing, with their shape before them as Python writes it."""

    label: Annotated[int, Meta(ge=0)]
    height: Annotated[int, Meta(ge=1)]
    width: Annotated[int, Meta(ge=1)]
    frame_sha256: Sha256
    fitted_sha256: Sha256
    values_sha256: Sha256


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one artifact answered where the certificate was written: `files` by name with their sha256, `logits`
    (frames, classes), and the largest difference of a logit that the same files may have elsewhere."""

    name: str
    runtime: str
    runtime_version: str
    precision: Precision
    files: dict[str, Sha256]
    logits: list[list[float]]
    tolerance: Annotated[float, Meta(ge=0)]


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """certificate.json. `keras` are the trained model's logits (frames, classes), `spread` their standard deviation
    with each frame's mean taken off. An artifact with other files than those of its Answer is judged by the gate of its
    precision. `steps` of 255 is how far preprocessing may be off. The answers were measured on `machine`, with that
    `instruction_set` and those `packages`."""

    schema: str = SCHEMA
    name: str
    labels: Annotated[list[Label], Meta(min_length=2)]
    input: InputSpec
    source_sha256: Sha256
    shots: Annotated[list[Shot], Meta(min_length=2, max_length=1000)]
    keras: list[list[float]]
    spread: Annotated[float, Meta(gt=0)]
    answers: list[Answer]
    gates: dict[Precision, Gate]
    steps: Annotated[int, Meta(ge=0, le=255)] = STEPS
    machine: str = ""
    instruction_set: str = ""
    packages: dict[str, str] = {}
    sha256: str = ""


class Certified(NamedTuple):
    """A certificate whose every digest fits: frames (h, w, 3) uint8 RGB of their own sizes, and what preprocessing made
    of them (n, height, width, channels) uint8."""

    certificate: Certificate
    frames: list[Image]
    fitted: Image


def write_certificate(
    folder: Path, certificate: Certificate, frames: Sequence[Image], labels: Sequence[int]
) -> Certificate:
    """Write the folder wholly or not at all, and read it back; `shots` are filled in from the frames (h, w, 3) uint8
    RGB and their true classes, and so are machine, versions and digest.

    Raises:
        BadInput: `folder` is there and is no certificate.
        NotWritable: the disk is full, read-only or forbids it.
    """
    if folder.exists() and not (folder / RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: is there and is no certificate; name a new folder")
    with replacing(folder) as temporary:
        (temporary / "frames").mkdir(parents=True)
        (temporary / "fitted").mkdir()
        shots = [
            _write_shot(temporary, number, frame, preprocess.fit(frame, certificate.input), int(label))
            for number, (frame, label) in enumerate(zip(frames, labels, strict=True))
        ]
        whole = msgspec.structs.replace(
            certificate, shots=shots, machine=device_name(), instruction_set=instruction_set(), packages=packages()
        )
        sealed = msgspec.structs.replace(whole, sha256=_seal(whole))
        write_whole(temporary / RECORD, msgspec.json.format(msgspec.json.encode(sealed, order="sorted"), indent=2))
        read_certificate(temporary)
    return sealed


def read_certificate(folder: Path) -> Certified:
    """The certificate in `folder`, every digest checked before a picture is decoded.

    Raises:
        NotFound: no certificate there.
        TrustFailed: certificate.json or a picture is not what was written.
        UnknownSchema: written by a later major version.
        BadInput: certificate.json is none, or contradicts itself.
        MissingPackage: OpenCV is not installed.
    """
    certificate = read_document_file(folder / RECORD, Certificate, reads=SCHEMA)
    if certificate is None:
        raise NotFound(f"{folder}: no {RECORD} there; lineside verify RUN --write-certificate {folder} writes one")
    if _seal(certificate) != certificate.sha256:
        raise TrustFailed(f"{folder / RECORD}: was altered or damaged; write the certificate again, or fetch it again")
    _check(certificate, folder / RECORD)
    frames, fitted = [], []
    for number, shot in enumerate(certificate.shots):
        frames.append(_read(folder / "frames" / _name(number), shot.frame_sha256))
        values = _read(folder / "fitted" / _name(number), shot.fitted_sha256)[:, :, : certificate.input.channels]
        if images_sha256(values) != shot.values_sha256:
            raise TrustFailed(f"{folder / 'fitted' / _name(number)}: does not decode to what was written")
        fitted.append(values)
    return Certified(certificate, frames, np.stack(fitted))


def tolerance(precision: Precision, logits: Logits) -> float:
    """The largest difference of a logit (n, classes) that the same files may have on another machine."""
    return round(TOLERANCE[precision] * float(np.ptp(logits)), 6)


def gates() -> dict[Precision, Gate]:
    """The gate of each precision, for a certificate to carry."""
    return dict(GATES)


def packages(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _name(number: int) -> str:
    return f"{number:03d}.png"


def _write_shot(folder: Path, number: int, frame: Image, fitted: Image, label: int) -> Shot:
    digests = []
    for place, image in (("frames", frame), ("fitted", fitted)):
        content = _png(image)
        (folder / place / _name(number)).write_bytes(content)
        digests.append(hashlib.sha256(content).hexdigest())
    height, width = frame.shape[:2]
    return Shot(
        label=label,
        height=height,
        width=width,
        frame_sha256=digests[0],
        fitted_sha256=digests[1],
        values_sha256=images_sha256(fitted),
    )


def _png(image: Image) -> bytes:
    """A PNG of (h, w, 3) uint8 RGB or (h, w, 1) uint8."""
    cv2 = require("cv2", extra="camera")
    written: bytes = cv2.imencode(".png", np.ascontiguousarray(image[:, :, ::-1]))[1].tobytes()
    return written


def _read(path: Path, sha256: str) -> Image:
    try:
        fits = hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError as error:
        raise TrustFailed(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not fits:
        raise TrustFailed(f"{path}: is not the picture that was written; fetch the certificate again")
    return read_picture(path)


def _seal(certificate: Certificate) -> str:
    bare = msgspec.structs.replace(certificate, sha256="")
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


def _check(certificate: Certificate, where: Path) -> None:
    shape, classes = (len(certificate.shots), len(certificate.labels)), len(certificate.labels)
    for name, rows in [("keras", certificate.keras), *((each.name, each.logits) for each in certificate.answers)]:
        if len(rows) != shape[0] or any(len(row) != classes for row in rows):
            raise BadInput(f"{where}: {name} must have {shape[0]} rows of {classes} logits")
    if any(shot.label >= classes for shot in certificate.shots) or set(certificate.gates) != set(GATES):
        raise BadInput(f"{where}: names a class or a precision that there is none of")
