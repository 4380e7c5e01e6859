"""The artifacts of a run as they lie on the disk: which files, for which runtime."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, open_runtime
from toolkit.runs import Run


class _Record(msgspec.Struct):
    runtime: str
    precision: Literal["fp32", "fp16", "int8"]
    files: list[str]


class Artifact(NamedTuple):
    """A converted model. `files` are in its folder, the first is the one that the runtime opens; `sha256` is over the
    names and contents of all of them."""

    name: str
    runtime: str
    precision: Literal["fp32", "fp16", "int8"]
    files: list[Path]
    sha256: str

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
    """
    folder = run.artifact_dir(name)
    path = folder / "artifact.json"
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
        files = [folder / file for file in record.files]
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        there = ", ".join(run.artifacts()) or "none"
        missing = f"{name} is not there" if not path.exists() else f"{error.filename} is gone"
        raise NotFound(
            f"{run.dir}: {missing} (converted: {there}); convert with: lineside convert {run.dir} --for PROFILE"
        ) from None
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadInput(f"{path}: {str(error).lower()}") from error
    if not files:
        raise BadInput(f"{path}: names no files")
    return Artifact(name, record.runtime, record.precision, files, digest.hexdigest())


def open_artifacts(run: Run) -> list[Artifact]:
    """Every artifact that was converted.

    Raises:
        NotFound: none was.
    """
    names = run.artifacts()
    if not names:
        raise NotFound(f"{run.dir}: no artifacts there; convert with: lineside convert {run.dir} --for PROFILE")
    return [open_artifact(run, name) for name in names]
