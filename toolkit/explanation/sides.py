"""What stands on one side of a difference: an artifact of a run, the folder of one, or a model file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from converters.artifact import RECORD, check_files, read_artifact
from converters.tflite_file import read_graph
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import InputSpec
from toolkit.artifacts import open_artifact
from toolkit.explanation.subject import spec_of
from toolkit.runs import Run, open_run

RUNTIMES = {".tflite": "litert", ".onnx": "onnx", ".xml": "openvino"}


class ModelSide(NamedTuple):
    """A model's `files`, the first of which `runtime` opens, and how an image becomes its input; `run` and `name` where
    it is an artifact of a run."""

    title: str
    files: list[Path]
    runtime: str
    spec: InputSpec | None
    run: Run | None = None
    name: str = ""

    @property
    def is_tflite(self) -> bool:
        """Whether its graph can be read."""
        return self.runtime == "litert"


def open_side(path: Path, artifact: str) -> ModelSide:
    """What `path` is; `artifact` is the one that is meant where it is a run.

    Raises:
        NotFound: nothing there, or the artifact is not.
        BadInput: neither a run, nor an artifact's folder, nor a model file.
        ParityFailed: a file that is not the one that was converted.
    """
    if (path / "run.json").is_file():
        run = open_run(path)
        made = open_artifact(run, artifact)
        return ModelSide(f"{path} {artifact}", made.files, made.runtime, run.record.input, run, artifact)
    if (path / RECORD).is_file():
        return _artifact_side(path)
    if path.is_file() and path.suffix in RUNTIMES:
        spec = spec_of(path, read_graph(path)) if path.suffix == ".tflite" else None
        beside = [path.with_suffix(".bin")] if path.suffix == ".xml" and path.with_suffix(".bin").is_file() else []
        return ModelSide(str(path), [path, *beside], RUNTIMES[path.suffix], spec)
    if not path.exists():
        raise NotFound(f"{path}: no such run, artifact or file")
    raise BadInput(f"{path}: must be a run, the folder of an artifact, or a file {', '.join(RUNTIMES)}")


def _artifact_side(path: Path) -> ModelSide:
    folder = path.resolve()
    of = folder.parent.parent
    if folder.parent.name == "artifacts" and (of / "run.json").is_file():
        side = open_side(of, folder.name)
        return side._replace(title=str(path))
    record = read_artifact(path)
    assert record is not None
    check_files(path, record)
    files = [path / name for name in record.files]
    spec = spec_of(files[0], read_graph(files[0])) if files[0].suffix == ".tflite" else None
    return ModelSide(str(path), files, record.runtime, spec)
