"""The run folder: what a training left behind, and how every later step finds it.

RUN/run.json        RunRecord; status "trained" is written last, after everything else is there
RUN/model.keras     input "image" float32 (n, S, S, 3) in [-1, 1], output logits float32 (n, classes)
RUN/split.csv       file, class, group, split of every image that was there
RUN/history.csv, curves.png, confusion.png, metrics.json
RUN/checkpoint/     the last whole epoch, while training
RUN/artifacts/<runtime>-<precision>/, RUN/evaluation/ and RUN/benchmark/<runtime>-<precision>.json    from later steps
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.codec import read_document_file
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec, Label
from toolkit.data.listing import SPLITS

if TYPE_CHECKING:
    from toolkit.data.images import Dataset

RUN_SCHEMA = "1.0"
Images = NDArray[np.uint8]


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """run.json. `alpha` is the width multiplier, `data` the folder of images, `data_from_run` the same as seen from
    the run's folder, `data_sha256` the digest of every image, class and group in it, `split_sha256` that of
    split.csv, `recipe` all that the training was asked for, `reasons` why where they were chosen by the data,
    `packages` the versions that it ran with, `trigger` the id of
    the fleet's trigger that asked for it, `prevalence` the share of each class on the line, if stated. `metrics`
    are in [0, 1], measured on the validation images by Keras."""

    schema: str = RUN_SCHEMA
    status: Literal["training", "trained"]
    name: str
    labels: list[Label]
    input: InputSpec
    family: str
    alpha: float
    seed: int
    data: str
    data_from_run: str = ""
    data_sha256: str
    split_sha256: str = ""
    recipe: dict[str, Any]
    reasons: list[str] = []
    packages: dict[str, str] = {}
    trigger: str = ""
    prevalence: list[float] | None = None
    metrics: dict[str, float] = {}


class Run:
    """A run folder that is open for reading: its record, its data set and the images of each split."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.dir = folder
        self.record = record

    @property
    def labels(self) -> list[Label]:
        """Classes in the order of the logits."""
        return self.record.labels

    @property
    def model_path(self) -> Path:
        """The Keras model."""
        return self.dir / "model.keras"

    @property
    def data(self) -> Path:
        """Where the images are: where they were, or at the same place beside the run if both were moved together."""
        there, moved = Path(self.record.data), self.dir / self.record.data_from_run
        return moved.resolve() if self.record.data_from_run and not there.exists() and moved.exists() else there

    def artifact_dir(self, name: str) -> Path:
        """Folder of one artifact, such as "litert-int8"; it may not be there yet."""
        return self.dir / "artifacts" / name

    def artifacts(self) -> list[str]:
        """Names of the artifacts that are complete, in alphabetical order."""
        return sorted(path.parent.name for path in self.dir.glob("artifacts/[!.]*/artifact.json"))

    def dataset(self) -> Dataset:
        """The images that the run was trained, validated and tested on, in the groups that they had then; images added
        to the folder since are left out.

        Raises:
            NotFound: the folder is gone.
            BadInput: its classes are no longer those of the model; images are gone, or were changed since the training;
                split.csv was.
        """
        return self._dataset

    @functools.cached_property
    def _dataset(self) -> Dataset:
        from toolkit.data.images import open_dataset

        data = self.data
        if not data.exists():
            raise NotFound(f"{data}: the images of the run {self.dir} are gone; {self._ways_on}")
        found = open_dataset(data, join=False)
        names = [label.name for label in self.labels]
        if list(found.names) != names:
            raise BadInput(f"{data}: classes are {', '.join(found.names)}, the run has {', '.join(names)}")
        row_of = {file: row for row, file in enumerate(found.files)}
        gone = [file for file in self._split if file not in row_of]
        if gone:
            raise BadInput(f"{data}: {len(gone)} images of the run are gone, first {gone[0]}; {self._ways_on}")
        dataset = found.only(sorted(row_of[file] for file in self._split))
        if dataset.sha256() != self.record.data_sha256:
            raise BadInput(f"{data}: images, classes or groups were changed since the training; {self._ways_on}")
        groups = np.array([self._split[file].group for file in dataset.files])
        return replace(dataset, groups=groups, stated=dataset.groups)

    @property
    def _ways_on(self) -> str:
        return f"put them back, or train again with: lineside train {self.data} --out {self.dir} --fresh"

    @functools.cached_property
    def _split(self) -> dict[str, Place]:
        return read_split(self.dir / "split.csv", self.record.split_sha256)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices into `dataset()` of the images in "train", "val" or "test", in ascending order.

        Raises:
            BadInput: what `dataset` raises.
        """
        if split not in SPLITS:
            raise BadInput(f"no split {split!r}; known are {', '.join(SPLITS)}")
        files = self.dataset().files
        return np.array([row for row, file in enumerate(files) if self._split[file].split == split], np.int64)

    def images(self, split: str) -> tuple[Images, NDArray[np.int64]]:
        """Images (n, h, w, channels) uint8 as the device's preprocessing gives them, and labels (n,)."""
        from toolkit.data.images import load

        dataset, rows = self.dataset(), self.rows(split)
        return load(dataset, self.record.input, rows), np.asarray(dataset.labels, np.int64)[rows]

    def golden(self, count: int = 16) -> Images:
        """Up to `count` validation images (n, h, w, channels) uint8, the classes in turn, the same ones every time."""
        from toolkit.data.images import load

        return load(self.dataset(), self.record.input, self.golden_rows(count))

    def golden_rows(self, count: int) -> NDArray[np.int64]:
        """Indices into `dataset()` of the images of `golden`."""
        rows = self.rows("val")
        labels = np.asarray(self.dataset().labels)[rows]
        order = np.argsort([np.sum(labels[:row] == labels[row]) for row in range(len(rows))], kind="stable")
        return rows[order[:count]]

    def model(self) -> Any:
        """The Keras model, loaded now (imports TensorFlow)."""
        from toolkit.models.files import load_model

        return load_model(self.model_path, self.record.family)


_KERAS = "lineside train DATA --out RUN --weights FILE trains from a Keras file, and RUN is what every command takes"
_MODEL = "lineside verify and lineside bench take a model file as it is"
_FILES = {".h5": _KERAS, ".hdf5": _KERAS, ".keras": _KERAS, ".tflite": _MODEL, ".onnx": _MODEL, ".xml": _MODEL}


def open_run(path: str | Path, *, finished: bool = True) -> Run:
    """The run in folder `path`; with `finished`, one whose training has not ended is refused.

    Raises:
        NotFound: no run there.
        BadInput: a file, run.json is damaged, or the training is not finished.
        UnknownSchema: written by a later major version.
    """
    folder = Path(path)
    record = read_record(folder)
    if record is None and folder.is_file():
        raise BadInput(f"{folder}: is a file, no run; {_FILES.get(folder.suffix.lower(), 'name the folder of a run')}")
    if record is None:
        raise NotFound(f"{folder}: no run.json there; train one with: lineside train DATA --out {folder}")
    if finished and record.status != "trained":
        raise BadInput(f"{folder}: its training is not finished; the same lineside train command goes on with it")
    return Run(folder, record)


def read_record(folder: Path) -> RunRecord | None:
    """run.json of a folder, None where there is none."""
    return read_document_file(folder / "run.json", RunRecord, reads=RUN_SCHEMA)


def write_record(folder: Path, record: RunRecord) -> None:
    """Write run.json wholly or not at all."""
    text = msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2)
    write_whole(folder / "run.json", text + b"\n")


class Place(NamedTuple):
    """Where an image stands: its group, and "train", "val" or "test"."""

    group: str
    split: str


def split_table(dataset: Dataset, split: NDArray[Any]) -> bytes:
    """The text of split.csv: one line an image, in the order of the data set; `split` (n,) of names."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["file", "class", "group", "split"])
    for file, label, group, name in zip(dataset.files, dataset.labels, dataset.groups, split, strict=True):
        table.writerow([file, dataset.names[label], group, name])
    return out.getvalue().encode()


def write_split(path: Path, dataset: Dataset, split: NDArray[Any]) -> None:
    """Write split.csv wholly or not at all."""
    write_whole(path, split_table(dataset, split))


def read_split(path: Path, sha256: str = "") -> dict[str, Place]:
    """Group and split of each file, in the order of split.csv; `sha256` is what its digest must be, if it is known.

    Raises:
        BadInput: missing, changed, or without the columns "file", "group" and "split".
    """
    try:
        text = path.read_bytes()
        lines = csv.DictReader(io.StringIO(text.decode(), newline=""))
        places = {line["file"]: Place(line["group"], line["split"]) for line in lines}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no table of files, groups and splits; train again with --fresh") from error
    if sha256 and hashlib.sha256(text).hexdigest() != sha256:
        raise BadInput(f"{path}: was changed since the training; put it back, or train again with --fresh")
    return places
