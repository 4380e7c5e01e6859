"""Bundles of networks of full width with drawn weights: their answers are worth nothing, their cost is real."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np

from converters.console import held_back
from converters.keras_export import Export
from converters.tflite import write_float, write_quantized
from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import ArtifactManifest, Baseline, BundleManifest, Golden, Label
from device_agent.runtimes import logits, open_runtime
from toolkit.models.architecture import Architecture
from toolkit.models.networks import build, normalizations, settle_statistics

SEED, CLASSES = 0, 5
LABELS = [Label("good", "good"), *(Label(f"defect-{k}", "defect") for k in range(1, CLASSES))]


def bundle(path: Path, *, alpha: float, size: int, precision: str) -> Path:
    """A bundle of MobileNetV2 for LiteRT at `path`; the one that is there, if it is."""
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            _write(path, Path(folder), alpha, size, precision)
    return path


def _write(path: Path, folder: Path, alpha: float, size: int, precision: str) -> None:
    import keras

    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    architecture = Architecture(family="mobilenet-v2", alpha=alpha, size=size)  # type: ignore[arg-type]
    network, spec = build(architecture, CLASSES), architecture.input_spec()
    for layer in normalizations(network):
        layer.gamma.assign(np.abs(rng.normal(1, 0.1, layer.gamma.shape)))
    images = rng.integers(0, 256, (16, size, size, 3)).astype(np.uint8)
    settle_statistics(network, images, spec)
    file = folder / "model.tflite"
    with held_back():
        (write_float if precision == "fp32" else write_quantized)(Export(network, spec, images, folder), file)
    runtime = open_runtime("litert", file, spec)
    golden, content = io.BytesIO(), file.read_bytes()
    np.save(golden, images[:4])
    artifact = ArtifactManifest(
        runtime="litert",
        precision=precision,  # type: ignore[arg-type]
        files=[entry("model.tflite", content)],
        input=spec,
        temperature=1.0,
        golden=Golden([logits(runtime, image).tolist() for image in images[:4]], 0.05),
        baseline=Baseline.of(np.ones((CLASSES, CLASSES, BINS), int)),
    )
    manifest = BundleManifest(
        name=f"v2-{alpha:g}-{size}-{precision}",
        profile="generic-x86-64",
        labels=LABELS,
        artifacts=[artifact],
        golden_images=entry("golden.npy", golden.getvalue()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(path, manifest, {"model.tflite": content, "golden.npy": golden.getvalue()})
