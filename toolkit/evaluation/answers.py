"""What a model says to each image of a split, through the device's own preprocessing and runtime, kept for later.

RUN/evaluation/<name>.<split>.npz    the logits, under the digests of model and data; made anew when either differs
RUN/evaluation/scorings.json         how many times the test split was looked at, by name
"""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.artifact import file_sha256
from device_agent.contract.errors import BadInput, ParityFailed
from device_agent.contract.files import write_whole
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime
from device_agent.runtimes import logits as logits_of
from toolkit.artifacts import open_artifact
from toolkit.data.images import Dataset, load
from toolkit.runs import Run

KERAS = "keras"
CHUNK = 256  # images in memory at one time
Split = Literal["train", "val", "test"]
Progress = Callable[[int, int], None]


class Answers(NamedTuple):
    """The images of one split and what a model said to them; all have one entry an image, in the order of the run's
    data set.

    `labels` (n,) int64 true classes, `groups` (n,) str, `logits` (n, classes) float32 and finite, `columns` the other
    columns of the manifest, `marks` (n, classes) bool the truth of a multi-label data set, else None.
    `runtime_version` is that of the runtime which gave the logits.
    """

    files: list[str]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    logits: NDArray[np.float32]
    columns: dict[str, list[str]]
    marks: NDArray[np.bool_] | None
    runtime_version: str = ""

    def only(self, rows: NDArray[np.int64]) -> Answers:
        """The images of `rows`, indices in any order."""
        return self._replace(
            files=[self.files[row] for row in rows],
            labels=self.labels[rows],
            groups=self.groups[rows],
            logits=self.logits[rows],
            columns={name: [values[row] for row in rows] for name, values in self.columns.items()},
            marks=None if self.marks is None else self.marks[rows],
        )


class Subject(NamedTuple):
    """A model that can be asked: an artifact of the run, or "keras" for the trained model itself."""

    name: str
    sha256: str
    runtime: str
    precision: str


def subject_of(run: Run, name: str) -> Subject:
    """The named artifact, or the Keras model.

    Raises:
        NotFound, BadInput, ParityFailed: as `toolkit.artifacts.open_artifact`.
    """
    if name == KERAS:
        return Subject(name, file_sha256(run.model_path), KERAS, "fp32")
    artifact = open_artifact(run, name)
    return Subject(name, artifact.sha256, artifact.runtime, artifact.precision)


def answers_of(run: Run, name: str, split: Split, *, threads: int = 1, progress: Progress | None = None) -> Answers:
    """The answers of an artifact such as "litert-int8", or of "keras", to every image of a split.

    They are computed once and then read from the run as long as model and data are the same. Each call for "test" is
    counted as a look at it, also when nothing had to be computed.

    Raises:
        NotFound: the artifact or the data are not there.
        BadInput: the split has no images.
        ParityFailed: logits that are not finite, or for another number of classes.
    """
    dataset, rows = run.dataset(), run.rows(split)
    if not len(rows):
        raise BadInput(f"{run.dir}: the {split} split has no images")
    path = run.dir / "evaluation" / f"{name}.{split}.npz"
    with _opened(run, name, threads) as model:
        key = f"{subject_of(run, name).sha256} {run.record.data_sha256} {run.record.split_sha256} {model.version}"
        logits = _read(path, key, (len(rows), len(run.labels)))
        if logits is None:
            logits = _infer(run, model, dataset, rows, progress)
            _write(path, key, logits)
    if split == "test":
        _count(run, name)
    return collect(dataset, rows, logits, model.version)


def collect(dataset: Dataset, rows: NDArray[np.int64], logits: NDArray[np.float32], runtime_version: str) -> Answers:
    """Answers from logits (k, classes) to the images of `rows` (k,)."""
    return Answers(
        files=[dataset.files[row] for row in rows],
        labels=np.asarray(dataset.labels, np.int64)[rows],
        groups=np.asarray(dataset.groups)[rows],
        logits=logits,
        columns={name: [values[row] for row in rows] for name, values in dataset.columns.items()},
        marks=None if dataset.marks is None else dataset.marks[rows],
        runtime_version=runtime_version,
    )


def infer_on(
    run: Run,
    name: str,
    dataset: Dataset,
    rows: NDArray[np.int64],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float32], str]:
    """Logits (k, classes) float32 for the images of `rows` (k,) in any data set, and the version of the runtime; some
    images are in memory at one time, so that any number can be asked.

    Raises:
        ParityFailed: logits that are not finite, or for another number of classes.
    """
    with _opened(run, name, threads) as model:
        return _infer(run, model, dataset, rows, progress), model.version


def infer(runtime: Runtime, images: NDArray[np.uint8], *, progress: Progress | None = None) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of fitted images (n, height, width, channels) uint8, one by one, as on a device."""
    out = np.empty((len(images), runtime.classes), np.float32)
    for row, image in enumerate(images):
        out[row] = logits_of(runtime, image)
        if progress is not None:
            progress(row + 1, len(images))
    return out


def check_logits(logits: NDArray[np.float32], classes: int, *, where: str) -> None:
    """Refuse answers that cannot be scored.

    Raises:
        ParityFailed: logits that are not finite, or for another number of classes.
    """
    if logits.shape[1] != classes:
        raise ParityFailed(f"{where} gives {logits.shape[1]} logits, the run has {classes} classes; convert it again")
    wrong = int((~np.isfinite(logits).all(axis=1)).sum())
    if wrong:
        raise ParityFailed(f"{where} gives logits that are not finite for {wrong} of {len(logits)} images")


def times_scored(run: Run, name: str) -> int:
    """How many times the test split was looked at through this model."""
    return _counts(run).get(name, 0) or _counted_before(run, name)


class _Model(NamedTuple):
    name: str
    version: str
    ask: Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@contextmanager
def _opened(run: Run, name: str, threads: int) -> Iterator[_Model]:
    """The model, ready to be asked; Keras is loaded at the first question only."""
    if name == KERAS:
        load_model = functools.cache(run.model)
        yield _Model(name, version(KERAS), lambda images: _predict(load_model(), images, run.record.input))
        return
    runtime = open_artifact(run, name).open(run.record.input, threads=threads)
    try:
        yield _Model(name, runtime.version, lambda images: infer(runtime, images))
    finally:
        runtime.close()


def _predict(model: Any, images: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    from toolkit.models.answers import predict

    return np.asarray(predict(model, images, spec), np.float32)


def _infer(
    run: Run, model: _Model, dataset: Dataset, rows: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.float32]:
    out: list[NDArray[np.float32]] = []
    for start in range(0, len(rows), CHUNK):
        images = load(dataset, run.record.input, rows[start : start + CHUNK])
        out.append(model.ask(images))
        if progress is not None:
            progress(start + len(images), len(rows))
    logits = np.concatenate(out)
    check_logits(logits, len(run.labels), where=f"{run.dir}: {model.name}")
    return logits


def _read(path: Path, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """The kept logits, None where they are not there, of another model, runtime or data, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            logits, found = kept["logits"], str(kept["key"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = found == key and logits.shape == shape and logits.dtype == np.float32 and np.isfinite(logits).all()
    return np.asarray(logits) if fits else None


def _write(path: Path, key: str, logits: NDArray[np.float32]) -> None:
    content = io.BytesIO()
    np.savez(content, logits=logits, key=np.array(key))
    write_whole(path, content.getvalue())


def _count(run: Run, name: str) -> None:
    counts = _counts(run) | {name: times_scored(run, name) + 1}
    write_whole(_counter(run), msgspec.json.format(msgspec.json.encode(counts, order="sorted"), indent=2) + b"\n")


def _counter(run: Run) -> Path:
    return run.dir / "evaluation" / "scorings.json"


def _counts(run: Run) -> dict[str, int]:
    try:
        return msgspec.json.decode(_counter(run).read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{_counter(run)}: cannot be read as counts of scorings: {error}; remove it") from error


class _Scored(msgspec.Struct):
    times_scored: int = 0


def _counted_before(run: Run, name: str) -> int:
    """The count in a test result of a version that kept it there."""
    try:
        text = (run.dir / "evaluation" / f"{name}.test.json").read_bytes()
        return msgspec.json.decode(text, type=_Scored).times_scored
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return 0
