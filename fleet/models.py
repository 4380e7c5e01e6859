"""Models that the monitor knows: labels and baseline of each artifact of an imported bundle."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection, Row

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import Baseline, BundleManifest, Label, read_manifest
from device_agent.contract.session import Birth
from fleet.schema import MODEL
from fleet.store import upsert

MAX_MANIFEST_BYTES = 64 << 20
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
    """The models of a bundle, one for each artifact, from its manifest alone.

    Raises:
        NotFound: no such file.
        BadInput: not a bundle, or its manifest is damaged or larger than 64 MiB.
    """
    try:
        content = path.read_bytes()
        with zipfile.ZipFile(path) as bundle:
            info = bundle.getinfo("manifest.json")
            if info.file_size > MAX_MANIFEST_BYTES:
                raise BadInput(f"{path}: manifest.json has {info.file_size} bytes, more than {MAX_MANIFEST_BYTES}")
            text = bundle.read(info)
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file; `lineside pack RUN --for PROFILE` makes a bundle") from None
    except KeyError:
        raise BadInput(f"{path}: a zip without manifest.json is no bundle") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise BadInput(f"{path}: not a bundle, or a damaged one: {str(error).lower()}") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    manifest = read_manifest(text, where=f"{path}: manifest.json")
    return models_of(manifest, hashlib.sha256(content).hexdigest(), now_ms)


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
