"""What is in a bundle, for people: only what was verified is shown."""

from __future__ import annotations

from pathlib import Path

import msgspec

from device_agent.contract.bundle import read_bundle
from device_agent.contract.manifest import BundleManifest


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """A verified bundle: size in bytes, sha256, how many files were checked against their digests, the model id of each
    artifact in order, and the manifest."""

    path: str
    size: int
    sha256: str
    files_verified: int
    golden_images: int
    model_ids: list[str]
    manifest: BundleManifest


def inspect_bundle(path: Path) -> Inspection:
    """What `path` holds.

    Raises:
        NotFound, TrustFailed, UnknownSchema, BadInput: as for `device_agent.contract.bundle.read_bundle`.
    """
    bundle = read_bundle(path)
    return Inspection(
        path=str(path),
        size=path.stat().st_size,
        sha256=bundle.sha256,
        files_verified=len(bundle.manifest.files()),
        golden_images=len(bundle.golden),
        model_ids=[artifact.model_id.hex() for artifact in bundle.manifest.artifacts],
        manifest=bundle.manifest,
    )
