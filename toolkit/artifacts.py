"""The artifacts of a run as they lie on the disk, checked: which files, for which runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from converters.artifact import RECORD, ArtifactRecord, check_artifact, file_sha256
from converters.parity import Precision
from device_agent.contract.errors import NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, open_runtime
from toolkit.runs import Run


class Artifact(NamedTuple):
    """A converted model. `files` are in its folder, the first is the one that the runtime opens; `sha256` is over the
    names and contents of all of them."""

    name: str
    record: ArtifactRecord
    files: list[Path]
    sha256: str

    @property
    def runtime(self) -> str:
        """Name of the runtime that opens it."""
        return self.record.runtime

    @property
    def precision(self) -> Precision:
        """What it computes in."""
        return self.record.precision

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files)

    def open(self, spec: InputSpec, *, threads: int = 1) -> Runtime:
        """The artifact loaded by the device's runtime."""
        return open_runtime(self.runtime, self.files[0], spec, threads=threads)


def open_artifact(run: Run, name: str) -> Artifact:
    """The named artifact of a run.

    Raises:
        NotFound: it was not converted; the sentence names the command.
        BadInput: artifact.json is damaged.
        ParityFailed: its files are not those that passed the gate, or the run has another model by now.
    """
    folder = run.artifact_dir(name)
    if not (folder / RECORD).is_file():
        there = ", ".join(run.artifacts()) or "none"
        raise NotFound(
            f"{run.dir}: {name} is not there (converted: {there}); convert with: lineside convert {run.dir} "
            f"--for PROFILE"
        )
    record = check_artifact(folder, file_sha256(run.model_path))
    files, digest = [folder / file for file in record.files], hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return Artifact(name, record, files, digest.hexdigest())


def open_artifacts(run: Run) -> list[Artifact]:
    """Every artifact that was converted.

    Raises:
        NotFound: none was.
    """
    names = run.artifacts()
    if not names:
        raise NotFound(f"{run.dir}: no artifacts there; convert with: lineside convert {run.dir} --for PROFILE")
    return [open_artifact(run, name) for name in names]
