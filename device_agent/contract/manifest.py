"""The bundle's manifest: everything that a device has to know about a model, and where it came from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from device_agent.contract.codec import read_document
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, BINS_ID, dense_cells

MANIFEST_SCHEMA = "1.0"
Side = Annotated[int, Meta(ge=8, le=2048)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
MOST_CLASSES = 1024
"""Of a baseline: its dense form has 24 x classes^2 counts."""


class InputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a frame becomes the model's input: crop, resize, colour order, then value * scale + offset.

    `resize` "area" is a box filter when both sides shrink and bilinear otherwise (half-pixel centres). The model's
    input is (1, height, width, channels) with values in [offset, 255 * scale + offset].
    """

    height: Side
    width: Side
    channels: Literal[1, 3] = 3
    colour_order: Literal["rgb", "bgr", "grey"] = "rgb"
    resize: Literal["area", "bilinear"] = "area"
    crop: Literal["none", "centre"] = "none"
    scale: Annotated[float, Meta(gt=0)] = 1 / 127.5
    offset: float = -1.0
    dtype: Literal["uint8"] = "uint8"


class Label(msgspec.Struct, frozen=True):
    """A class of the model, in the order of its logits."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Literal["good", "defect"]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the bundle. `name` is relative, with forward slashes; `size` in bytes."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,120}\Z")]
    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class Golden(msgspec.Struct, frozen=True):
    """Known answers: logits (samples, classes) that this artifact gave for the bundle's golden images, and the largest
    difference that counts as equal."""

    logits: list[list[float]]
    tolerance: Annotated[float, Meta(ge=0)]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Counts [true class, predicted class, bin] of grouped validation folds, sparse and flat as in the histogram
    (cell = (true * classes + predicted) * 24 + bin), and the share of each true class on the line, if it is stated."""

    classes: int
    cells: list[int]
    prevalence: list[float] | None = None
    bins_id: Annotated[str, Meta(max_length=32)] = BINS_ID

    @classmethod
    def of(cls, counts: NDArray[np.integer], prevalence: list[float] | None = None) -> Baseline:
        """From dense counts (classes, classes, 24), integers >= 0."""
        flat = np.asarray(counts).ravel()
        used = np.flatnonzero(flat)
        cells = np.column_stack([used, flat[used]]).ravel().tolist()
        return cls(classes=len(counts), cells=cells, prevalence=prevalence)

    def dense(self) -> NDArray[np.int64]:
        """Counts (classes, classes, 24) int64: true class, predicted class, bin.

        Raises:
            BadInput: as for the histogram, or a prevalence that is no distribution over the classes.
        """
        if not 1 <= self.classes <= MOST_CLASSES:
            raise BadInput(f"baseline: {self.classes} classes, must be 1 to {MOST_CLASSES}")
        counts = dense_cells(self.cells, self.classes**2, self.bins_id, most_classes=MOST_CLASSES**2)
        shares = self.prevalence
        if shares is not None and (len(shares) != self.classes or min(shares) < 0 or not 0.999 < sum(shares) < 1.001):
            raise BadInput(f"baseline: prevalence must be {self.classes} shares >= 0 that add up to 1")
        return counts.reshape(self.classes, self.classes, BINS)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """When a part passes, is rejected, or goes to a person.

    The defect score is the log-odds of all defect classes against all good ones, of the softmax of logits * `scale` +
    `shift` (one each a class: calibration, and the classes' shares on the line, `prevalence`). Below `low` a part
    passes, from `high` on it is rejected, between them a person looks. `escape_upper` bounds the share of the true
    defects that pass, `escape_worst_upper` that of the defect class that is worst off, and `overkill_upper` that of the
    good parts that are rejected, each in [0, 1], one-sided and with `confidence`; they were measured on `images`
    validation images in `groups` through the device's own code.
    """

    low: float
    high: float
    scale: list[float]
    shift: list[float]
    prevalence: list[Annotated[float, Meta(ge=0, le=1)]]
    confidence: Annotated[float, Meta(gt=0, lt=1)]
    escape_upper: Annotated[float, Meta(ge=0, le=1)] = 1.0
    escape_worst_upper: Annotated[float, Meta(ge=0, le=1)] = 1.0
    overkill_upper: Annotated[float, Meta(ge=0, le=1)] = 1.0
    images: Annotated[int, Meta(ge=0)] = 0
    groups: Annotated[int, Meta(ge=0)] = 0
    provenance: Literal["measured"] = "measured"

    def check(self, labels: list[Label]) -> None:
        """Refuse what no part can be decided by.

        Raises:
            BadInput: not one number a class, a band that ends before it begins, or classes that are all good or all
                defects.
        """
        if {len(self.scale), len(self.shift), len(self.prevalence)} != {len(labels)}:
            raise BadInput(f"decision: scale, shift and prevalence must have {len(labels)} numbers, one a class")
        if not self.low <= self.high:
            raise BadInput(f"decision: low {self.low:g} must not be over high {self.high:g}")
        if len({label.role for label in labels}) < 2:
            raise BadInput(f"decision: every class is {labels[0].role}, there is nothing to decide")


_IDENTITY: dict[str, tuple[str, ...]] = {
    "runtime": (),
    "precision": (),
    "files": ("name", "size", "sha256"),
    "input": ("height", "width", "channels", "colour_order", "resize", "crop", "scale", "offset", "dtype"),
    "temperature": (),
    "golden": ("logits", "tolerance"),
    "baseline": ("classes", "cells", "prevalence", "bins_id"),
    "operating_point": (),
    "metrics": (),
}
"""What the model id is made of. Never edited within major schema 1."""


def _only(value: Any, names: tuple[str, ...]) -> Any:
    if not names:
        return value
    if isinstance(value, list):
        return [_only(item, names) for item in value]
    return {name: value[name] for name in names}


class ArtifactManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact: a model file for one runtime, and how to read its answers.

    `files` are its own; the first is the one the runtime opens. Logits are divided by `temperature` before the
    softmax. `metrics` are measured through the device's own code on the validation folds, in [0, 1]. With a `decision`,
    `operating_point` is the probability of a defect from which on a part does not pass.
    """

    runtime: str
    precision: Literal["fp32", "fp16", "int8"]
    files: Annotated[list[FileEntry], Meta(min_length=1)]
    input: InputSpec
    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    golden: Golden
    baseline: Baseline
    operating_point: float | None = None
    metrics: dict[str, float] = {}
    decision: Decision | UnsetType = UNSET

    @property
    def model_id(self) -> bytes:
        """First 8 bytes of the sha256 of the canonical JSON of the fields of schema 1.0: names the model in every
        report. Fields of a later minor schema take no part, so agent and monitor of two versions find the same id."""
        document = msgspec.to_builtins(self)
        identity = {name: _only(document[name], names) for name, names in _IDENTITY.items()}
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).digest()[:8]


class RunSection(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent runs the model, copied from the profile: threads, CPU affinity, budgets (p50 in ms, resident set in
    MiB, size in MiB)."""

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    affinity: Annotated[list[Annotated[int, Meta(ge=0, le=1023)]], Meta(max_length=1024)] | None = None
    latency_p50_ms: float | None = None
    rss_mib: float | None = None
    size_mib: float | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the model came from: digests of data and recipe, versions of the packages that made it, and the id of the
    trigger that asked for it, if one did."""

    run: str
    data_sha256: str
    recipe_sha256: str
    packages: dict[str, str]
    trigger: str = ""


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json` of a bundle. `artifacts` stand in the order in which the agent falls back."""

    schema: str = MANIFEST_SCHEMA
    name: str
    profile: str
    labels: Annotated[list[Label], Meta(min_length=2)]
    artifacts: Annotated[list[ArtifactManifest], Meta(min_length=1)]
    golden_images: FileEntry
    other_files: list[FileEntry] = []
    run: RunSection = RunSection()
    lineage: Lineage | None = None

    def files(self) -> list[FileEntry]:
        """Every file of the bundle but the manifest itself."""
        return [entry for artifact in self.artifacts for entry in artifact.files] + [
            self.golden_images,
            *self.other_files,
        ]


def write_manifest(manifest: BundleManifest) -> bytes:
    """Canonical JSON: sorted keys, two-space indent, a final newline; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def read_manifest(text: bytes, *, where: str = "manifest.json") -> BundleManifest:
    """The manifest in `text`; fields of a newer minor schema are passed over.

    Raises:
        UnknownSchema: another major schema.
        BadInput: not a manifest, or one that contradicts itself.
    """
    manifest = read_document(text, BundleManifest, where=where)
    classes = len(manifest.labels)
    if len({label.name for label in manifest.labels}) < classes:
        raise BadInput(f"{where}: two labels have the same name")
    for artifact in manifest.artifacts:
        rows = artifact.golden.logits
        if artifact.baseline.classes != classes or any(len(row) != classes for row in rows):
            raise BadInput(f"{where}: {artifact.files[0].name} does not have the {classes} classes of the labels")
        try:
            artifact.baseline.dense()
            if artifact.decision is not UNSET:
                artifact.decision.check(manifest.labels)
        except BadInput as error:
            raise BadInput(f"{where}: {artifact.files[0].name}: {error}") from None
    _check_names(manifest.files(), where)
    return manifest


def _check_names(entries: list[FileEntry], where: str) -> None:
    seen: dict[str, FileEntry] = {}
    folders = {entry.name[:at] for entry in entries for at, sign in enumerate(entry.name) if sign == "/"}
    for entry in entries:
        if not {"", ".", ".."}.isdisjoint(entry.name.split("/")):
            raise BadInput(f"{where}: file name {entry.name!r} leaves the bundle or names no file")
        if entry.name == "manifest.json" or seen.setdefault(entry.name, entry) != entry:
            raise BadInput(f"{where}: file name {entry.name!r} stands for two files")
    for name in sorted(folders & {"manifest.json", *seen}):
        raise BadInput(f"{where}: {name!r} is a file and the folder of another file")
