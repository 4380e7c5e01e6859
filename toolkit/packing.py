"""A run becomes a bundle: artifacts in the profile's order, known answers, temperature, baseline, lineage."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from converters.golden import GOLDEN_IMAGES, images_sha256
from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import ArtifactManifest, BundleManifest, Golden, Lineage
from profiles.schema import DeviceProfile
from toolkit.artifacts import Artifact, open_artifact
from toolkit.evaluation.scores import ensure_evaluation
from toolkit.operating_point.point import read_operating_point
from toolkit.runs import Run

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
    """Write the bundle of a run for a profile; by default the file is RUN/<run>-<profile>.lineside.

    Known answers come from the conversion, temperature and baseline from the evaluation, which is made where there is
    none, and the operating point is the one that was found, if one was. Nothing else is measured, so a run that was
    evaluated gives the same bytes whenever and wherever it is packed.

    Raises:
        NotFound: an artifact of the profile was not converted; the sentence names the command.
        BadInput: the golden images changed since the conversion, or the operating point is of another artifact.
        ParityFailed: an artifact is not the one that passed its gate, or the run has another model by now.
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
            progress(f"{name}: baseline")
            if doubt := artifact.record.parity.doubt:
                progress(f"{name}: {doubt}")
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
    point = read_operating_point(run, artifact.name)
    return ArtifactManifest(
        runtime=artifact.runtime,
        precision=artifact.precision,
        files=entries,
        input=run.record.input,
        temperature=evaluation.temperature,
        golden=_golden(artifact, images),
        baseline=evaluation.baseline,
        operating_point=None if point is None else round(point.low_score, 12),
        decision=UNSET if point is None else point.decision(),
        metrics={
            "accuracy": round(evaluation.accuracy, 6),
            "balanced_accuracy": round(evaluation.balanced_accuracy, 6),
            "ece": round(evaluation.ece, 6),
            "macro_f1": round(evaluation.macro_f1, 6),
            **({} if point is None else point.metrics()),
        },
    )


def _golden(artifact: Artifact, images: NDArray[np.uint8]) -> Golden:
    """The answers recorded at the conversion, when they are to these images."""
    record = artifact.record
    if record.golden is None or record.golden_images_sha256 != images_sha256(images):
        raise BadInput(
            f"{artifact.files[0].parent}: no known answers for the images as they are now; convert again with --force"
        )
    return record.golden


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
        trigger=run.record.trigger,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
