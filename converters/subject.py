"""What can be held against a certificate: an artifact's folder, the artifacts of a bundle, or a model file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from converters.artifact import RECORD, check_files, file_sha256, read_artifact
from converters.parity import Precision
from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.unpacking import unpack


class Subject(NamedTuple):
    """A model as a runtime would open it. `files` are all that belong to it with their sha256; `input` and `labels` are
    None where nothing says them, as for a bare file."""

    name: str
    runtime: str
    precision: Precision
    path: Path
    files: dict[str, str]
    input: InputSpec | None = None
    labels: list[str] | None = None


def artifact_subject(folder: Path, spec: InputSpec | None = None, labels: list[str] | None = None) -> Subject:
    """The artifact in a folder that `lineside convert` wrote, its files checked.

    Raises:
        NotFound: none there, or a file is gone.
        BadInput, UnknownSchema: artifact.json cannot be read.
        ParityFailed: a file has another content.
    """
    record = read_artifact(folder)
    if record is None:
        raise NotFound(f"{folder}: no {RECORD} there; name a run, an artifact's folder, a bundle or a model file")
    check_files(folder, record)
    digests = {name: record.sha256[name] for name in record.files}
    return Subject(record.name, record.runtime, record.precision, folder / record.files[0], digests, spec, labels)


@contextmanager
def bundle_subjects(path: Path) -> Iterator[list[Subject]]:
    """The artifacts of a bundle, unpacked for as long as the block runs.

    Raises:
        NotFound: no such file.
        TrustFailed: damaged, or not a bundle.
        BadInput, UnknownSchema: its manifest cannot be read.
    """
    bundle = read_bundle(path)
    labels = [label.name for label in bundle.manifest.labels]
    with TemporaryDirectory(prefix="lineside-") as scratch:
        folder = unpack(bundle, Path(scratch))
        yield [
            Subject(
                f"{each.runtime}-{each.precision}",
                each.runtime,
                each.precision,
                folder / each.files[0].name,
                {Path(entry.name).name: entry.sha256 for entry in each.files},
                each.input,
                labels,
            )
            for each in bundle.manifest.artifacts
        ]


def file_subject(path: Path, runtime: str, precision: Precision, spec: InputSpec | None = None) -> Subject:
    """A bare model file; the weights of an .xml lie beside it."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    digests = {each.name: file_sha256(each) for each in files}
    return Subject(path.name, runtime, precision, path, digests, spec)
