"""Models that the monitor knows: labels and baseline of each artifact of an imported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from device_agent.contract.bundle import read_bundle
from device_agent.contract.manifest import Baseline, BundleManifest, Label
from device_agent.contract.session import Birth
from fleet.schema import MODEL
from fleet.store import upsert

DOCUMENTS = ("labels", "baseline")


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model as its reports name it. Without a `baseline` (never imported) the roles of its labels are not known."""

    model: str
    name: str
    runtime: str
    precision: str
    labels: list[Label]
    baseline: Baseline | None = None
    bundle_sha256: str | None = None
    imported_ms: int | None = None


def read_bundle_models(path: Path, now_ms: int) -> list[Model]:
    """The models of a bundle, one for each artifact.

    Raises:
        NotFound, TrustFailed, UnknownSchema, BadInput: as for `read_bundle`.
    """
    bundle = read_bundle(path)
    return models_of(bundle.manifest, bundle.sha256, now_ms)


def models_of(manifest: BundleManifest, sha256: str, now_ms: int) -> list[Model]:
    """One model for each artifact of a manifest; `sha256` is the bundle's."""
    return [
        Model(
            model=artifact.model_id.hex(),
            name=f"{manifest.name} {artifact.runtime}-{artifact.precision}",
            runtime=artifact.runtime,
            precision=artifact.precision,
            labels=manifest.labels,
            baseline=artifact.baseline,
            bundle_sha256=sha256,
            imported_ms=now_ms,
        )
        for artifact in manifest.artifacts
    ]


def model_of_birth(birth: Birth) -> Model:
    """What a birth says of a model that was never imported: names of classes, no roles that can be trusted."""
    labels = [Label(name[:64] or "?", "defect") for name in birth.labels]
    return Model(model=birth.model.hex(), name=birth.model_name, runtime=birth.runtime, precision="?", labels=labels)


def write_models(tx: Connection, models: list[Model]) -> None:
    """Store models; those that are there are replaced."""
    upsert(tx, MODEL, [_row(model) for model in models])


def read_models(tx: Connection) -> dict[str, Model]:
    """Every model of the store by its id."""
    return {row.model: _model(row) for row in tx.execute(select(MODEL).order_by(MODEL.c.name))}


def _row(model: Model) -> dict[str, object]:
    row: dict[str, object] = msgspec.structs.asdict(model)
    for name in DOCUMENTS:
        row[name] = None if row[name] is None else msgspec.json.encode(row[name]).decode()
    return row


def _model(row: Row[tuple[Any, ...]]) -> Model:
    fields = {name: getattr(row, name) for name in Model.__struct_fields__}
    for name in DOCUMENTS:
        if fields[name] is not None:
            fields[name] = msgspec.json.decode(fields[name])
    return msgspec.convert(fields, Model)
