"""A run becomes a bundle: artifacts in the profile's order, known answers, temperature, baseline, lineage."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.bundle import entry, write_bundle
from device_agent.contract.errors import BadInput, NotFound, ParityFailed
from device_agent.contract.manifest import ArtifactManifest, BundleManifest, Golden, Lineage
from profiles.schema import DeviceProfile
from toolkit.artifacts import Artifact, open_artifact
from toolkit.evaluation import ensure_evaluation, infer
from toolkit.runs import Run

GOLDEN_IMAGES = 8
TOLERANCE = {"fp32": 0.01, "fp16": 0.03, "int8": 0.08}
"""Largest difference of a golden logit that counts as equal, as a share of the spread of all golden logits. Arm and x86
kernels round differently; a damaged or wrong model is off by about the whole spread."""
PACKAGES = ("ai-edge-litert", "keras", "lineside", "numpy", "onnxruntime", "openvino", "tensorflow", "tensorflow-cpu")
Progress = Callable[[str], None]


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written: where, how large in bytes, its sha256, its artifacts in order with their model ids."""

    path: str
    size: int
    sha256: str
    profile: str
    artifacts: list[str]
    model_ids: list[str]


def pack_run(run: Run, profile: DeviceProfile, out: Path | None = None, *, progress: Progress | None = None) -> Packed:
    """Write the bundle of a run for a profile. The same run gives the same bytes, whenever and wherever it is packed.

    Artifacts that were not evaluated yet are. By default the file is RUN/<run>-<profile>.lineside.

    Raises:
        NotFound: an artifact of the profile was not converted; the sentence names the command.
        ParityFailed: an artifact gives the same answer for every golden image.
        NotWritable: the disk is full or read-only.
    """
    missing = sorted(set(profile.artifacts) - set(run.artifacts()))
    if missing:
        raise NotFound(
            f"{run.dir}: {', '.join(missing)} not converted; convert with: "
            f"lineside convert {run.dir} --for {profile.id}"
        )
    images = run.golden(GOLDEN_IMAGES)
    files: dict[str, bytes] = {"golden.npy": _npy(images)}
    artifacts = []
    for name in profile.artifacts:
        artifact = open_artifact(run, name)
        if progress is not None:
            progress(f"{name}: known answers and baseline")
        artifacts.append(_describe(run, artifact, images, files))
    labels = [label.name for label in run.labels]
    files["labels.txt"] = "".join(f"{label}\n" for label in labels).encode()
    manifest = BundleManifest(
        name=run.record.name,
        profile=profile.id,
        labels=run.labels,
        artifacts=artifacts,
        golden_images=entry("golden.npy", files["golden.npy"]),
        other_files=[entry("labels.txt", files["labels.txt"])],
        run=profile.run,
        lineage=_lineage(run),
    )
    path = out or run.dir / f"{run.record.name}-{profile.id}.lineside"
    sha256 = write_bundle(path, manifest, files)
    return Packed(
        path=str(path),
        size=path.stat().st_size,
        sha256=sha256,
        profile=profile.id,
        artifacts=list(profile.artifacts),
        model_ids=[artifact.model_id.hex() for artifact in artifacts],
    )


def _describe(run: Run, artifact: Artifact, images: NDArray[np.uint8], files: dict[str, bytes]) -> ArtifactManifest:
    """The manifest of one artifact; its files are added to `files`."""
    evaluation = ensure_evaluation(run, artifact.name)
    if evaluation.baseline is None:
        raise BadInput(f"{run.dir}: {artifact.name} has no baseline; evaluate again with: lineside evaluate {run.dir}")
    entries = []
    for path in artifact.files:
        name = f"{artifact.name}/{path.name}"
        files[name] = path.read_bytes()
        entries.append(entry(name, files[name]))
    return ArtifactManifest(
        runtime=artifact.runtime,
        precision=artifact.precision,
        files=entries,
        input=run.record.input,
        temperature=evaluation.temperature,
        golden=golden_answers(run, artifact, images),
        baseline=evaluation.baseline,
        metrics={
            "accuracy": round(evaluation.accuracy, 6),
            "balanced_accuracy": round(evaluation.balanced_accuracy, 6),
            "ece": round(evaluation.ece, 6),
            "macro_f1": round(evaluation.macro_f1, 6),
        },
    )


def golden_answers(run: Run, artifact: Artifact, images: NDArray[np.uint8]) -> Golden:
    """Logits of the golden images, each made by the device's runtime, with the tolerance of the precision.

    Raises:
        ParityFailed: the answers do not depend on the image, so they would prove nothing.
    """
    runtime = artifact.open(run.record.input)
    try:
        logits = infer(runtime, images)
    finally:
        runtime.close()
    spread = float(np.ptp(logits))
    if not np.isfinite(spread) or float(np.ptp(logits, axis=0).max()) < 1e-6:
        raise ParityFailed(f"{run.dir}: {artifact.name} gives the same answer for every golden image")
    return Golden(logits.astype(float).round(5).tolist(), round(TOLERANCE[artifact.precision] * spread, 5))


def _npy(images: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(images), version=(1, 0), allow_pickle=False)
    return content.getvalue()


def _lineage(run: Run) -> Lineage:
    recipe = msgspec.json.encode({"recipe": run.record.recipe, "seed": run.record.seed}, order="sorted")
    packages = dict(run.record.packages) or {name: found for name in PACKAGES if (found := _version(name))}
    return Lineage(
        run=run.record.name,
        data_sha256=run.record.data_sha256,
        recipe_sha256=hashlib.sha256(recipe).hexdigest(),
        packages=packages,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
