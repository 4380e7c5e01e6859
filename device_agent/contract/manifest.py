"""The bundle's manifest: everything that a device has to know about a model, and where it came from."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from device_agent.contract.codec import check_document_schema
from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS, BINS_ID, dense_cells

MANIFEST_SCHEMA = "1.0"
Side = Annotated[int, Meta(ge=8, le=2048)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


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
    scale: float = 1 / 127.5
    offset: float = -1.0
    dtype: Literal["uint8"] = "uint8"


class Label(msgspec.Struct, frozen=True):
    """A class of the model, in the order of its logits."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Literal["good", "defect"]


class FileEntry(msgspec.Struct, frozen=True):
    """One file of the bundle. `name` is relative, with forward slashes; `size` in bytes."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,120}$")]
    size: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class Golden(msgspec.Struct, frozen=True):
    """Known answers: logits (samples, classes) that this artifact gave for the bundle's golden images, and the largest
    difference that counts as equal."""

    logits: list[list[float]]
    tolerance: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Counts [true class, predicted class, bin] of grouped validation folds, sparse and flat as in the histogram
    (cell = (true * classes + predicted) * 24 + bin), and the share of each true class on the line, if it is stated."""

    classes: int
    cells: list[int]
    prevalence: list[float] | None = None
    bins_id: str = BINS_ID

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
        counts = dense_cells(self.cells, self.classes * self.classes, self.bins_id)
        shares = self.prevalence
        if shares is not None and (len(shares) != self.classes or min(shares) < 0 or not 0.999 < sum(shares) < 1.001):
            raise BadInput(f"baseline: prevalence {shares} must be {self.classes} shares that add up to 1")
        return counts.reshape(self.classes, self.classes, BINS)


class ArtifactManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact: a model file for one runtime, and how to read its answers.

    `files` are its own; the first is the one the runtime opens. Logits are divided by `temperature` before the
    softmax. `metrics` are measured through the device's own code on the validation folds, in [0, 1].
    """

    runtime: str
    precision: Literal["fp32", "fp16", "int8"]
    files: Annotated[list[FileEntry], Meta(min_length=1)]
    input: InputSpec
    temperature: Annotated[float, Meta(gt=0)]
    golden: Golden
    baseline: Baseline
    operating_point: float | None = None
    metrics: dict[str, float] = {}

    @property
    def model_id(self) -> bytes:
        """First 8 bytes of the sha256 of this manifest's canonical JSON: names the model in every report."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).digest()[:8]


class RunSection(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent runs the model, copied from the profile: threads, CPU affinity, budgets (p50 in ms, resident set in
    MiB, size in MiB)."""

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    affinity: list[int] | None = None
    latency_p50_ms: float | None = None
    rss_mib: float | None = None
    size_mib: float | None = None


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the model came from: digests of data and recipe, versions of the packages that made it."""

    run: str
    data_sha256: str
    recipe_sha256: str
    packages: dict[str, str]


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


class _Head(msgspec.Struct):
    schema: str


def write_manifest(manifest: BundleManifest) -> bytes:
    """Canonical JSON: sorted keys, two-space indent, a final newline; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def read_manifest(text: bytes, *, where: str = "manifest.json") -> BundleManifest:
    """The manifest in `text`; fields of a newer minor schema are passed over.

    Raises:
        UnknownSchema: another major schema.
        BadInput: not a manifest, or one that contradicts itself.
    """
    try:
        check_document_schema(msgspec.json.decode(text, type=_Head).schema, where=where, reads=MANIFEST_SCHEMA)
        manifest = msgspec.json.decode(text, type=BundleManifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{where}: {str(error).lower()}") from error
    classes = len(manifest.labels)
    for artifact in manifest.artifacts:
        artifact.baseline.dense()
        rows = artifact.golden.logits
        if artifact.baseline.classes != classes or any(len(row) != classes for row in rows):
            raise BadInput(f"{where}: {artifact.files[0].name} does not have the {classes} classes of the labels")
    if any(".." in entry.name.split("/") for entry in manifest.files()):
        raise BadInput(f"{where}: a file name leaves the bundle")
    return manifest
