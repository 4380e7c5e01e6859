"""A bundle that any machine can serve: the fake runtime, three classes, pictures of noise."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from device_agent.contract.bundle import entry, write_bundle
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import (
    ArtifactManifest,
    Baseline,
    BundleManifest,
    Golden,
    InputSpec,
    Label,
)

SIDE = 64
_CLASSES = 3
_ANYTHING = 1e6  # any logit counts as right: what is under test is delivery, not the model


def write_fake_bundle(path: Path) -> None:
    """Write the bundle to `path`.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    model = b'{"classes": %d}' % _CLASSES
    images = np.random.default_rng(5).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    golden = io.BytesIO()
    np.save(golden, images)
    artifact = ArtifactManifest(
        runtime="fake",
        precision="fp32",
        files=[entry("model.json", model)],
        input=InputSpec(height=SIDE, width=SIDE),
        temperature=1.0,
        golden=Golden([[0.0] * _CLASSES] * len(images), _ANYTHING),
        baseline=Baseline.of(np.ones((_CLASSES, _CLASSES, BINS), int)),
    )
    manifest = BundleManifest(
        name="rehearsal",
        profile="generic-x86-64",
        labels=[Label("good", "good"), Label("scratch", "defect"), Label("stain", "defect")],
        artifacts=[artifact],
        golden_images=entry("golden.npy", golden.getvalue()),
    )
    write_bundle(path, manifest, {"model.json": model, "golden.npy": golden.getvalue()})
