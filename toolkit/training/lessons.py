"""What a teacher answers to each variation of each training image, kept on disk: an epoch then costs the student only.

CACHE/<key>/about.json               the teacher, data, images, policy and seed behind the key
CACHE/<key>/view-<view>.logits       float16 (n, classes), row by row, in the order of the training images
CACHE/<key>/view-<view>.features     float16 (n, width), where features are taught

A file is there wholly or not at all. A view is asked for when a training first needs it; students of any architecture,
size, learning rate and loss share it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.files import replacing, write_whole
from device_agent.preprocess import table
from toolkit.paths import reading
from toolkit.runs import Run
from toolkit.training.augment import EDITION, Policy, vary
from toolkit.training.teachers import Teacher

BATCH = 64
Part = Literal["logits", "features"]
Halves = NDArray[np.float16]
Progress = Callable[[int, int], None]
Ask = Callable[[NDArray[np.float32]], list[NDArray[np.floating]]]


class Source(Protocol):
    """The training images at a teacher's input size, as toolkit.data.pictures has them."""

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint8]: ...


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What answers hang on besides the teacher: the digest of the data set, the training images by name and their rows
    in the data set, the policy and seed of the student's training, from which its views are drawn."""

    data_sha256: str
    files: list[str]
    rows: list[int]
    policy: Policy
    seed: int


class Lessons:
    """The answers of one teacher in the folder of a cache. Neither the teacher nor the images are loaded before a view
    is wanted that is not there.

    Args:
        images: opens the training images at the teacher's input size; called once, when a view is missing.
        features: whether the teacher's pooled features are wanted besides its logits.
        progress: is told (images done, images) while the teacher is asked.
        teach: loads a teacher; by default with Keras.

    Raises:
        NotWritable: the cache's folder cannot be written.
    """

    def __init__(
        self,
        teacher: Teacher,
        cache: Path,
        course: Course,
        images: Callable[[], Source],
        *,
        features: bool = False,
        progress: Progress | None = None,
        teach: Callable[[Run, bool], Ask] | None = None,
    ) -> None:
        self._teach = teach or ask_keras
        self._teacher, self._course, self._images, self._progress = teacher, course, images, progress
        self._folder = cache / _key(teacher, course)
        self._parts: list[Part] = ["logits", "features"] if features else ["logits"]
        self._whole: set[int] = set()
        self._widths: dict[Part, int] = {"logits": len(teacher.columns)}
        self._ask: Ask | None = None
        self._source: Source | None = None
        write_whole(self._folder / "about.json", _about(teacher, course))

    @property
    def width(self) -> int:
        """Features of the teacher's pooled layer."""
        if "features" not in self._widths:
            known = next(iter(sorted(self._folder.glob("view-*.features"))), None)
            if known is not None and self._course.rows:
                self._widths["features"] = known.stat().st_size // (2 * len(self._course.rows))
            else:
                spec = self._teacher.run.record.input
                blank = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
                self._widths["features"] = self._teacher_asked(blank)[1].shape[1]
        return self._widths["features"]

    def prepare(self, view: int) -> None:
        """Have the answers to a view on the disk.

        Raises:
            BadInput: the teacher's answers are not finite.
            NotWritable: the disk is full, read-only or forbids it.
        """
        if view in self._whole:
            return
        if "features" in self._parts:
            _ = self.width
        if not all(self._fits(view, part) for part in self._parts):
            with ExitStack() as files:
                paths = [files.enter_context(replacing(self._path(view, part))) for part in self._parts]
                handles = [files.enter_context(path.open("wb", buffering=0)) for path in paths]
                for answers in self._answers(view):
                    for handle, answer in zip(handles, answers, strict=True):
                        handle.write(answer.tobytes())
        self._whole.add(view)

    def answers(self, at: NDArray[np.integer], view: int, part: Part = "logits") -> NDArray[np.float32]:
        """The answers to the training images `at` (k,) of the course in a view: logits (k, classes) in the student's
        order of classes, or features (k, width)."""
        self.prepare(view)
        path, size = self._path(view, part), 2 * self._widths[part]
        with reading(path), path.open("rb", buffering=0) as file:
            content = b"".join(os.pread(file.fileno(), size, place * size) for place in at.tolist())
        if len(content) != size * len(at):
            raise BadInput(f"{path}: ends too early; remove it, and the teacher will be asked again")
        found = np.frombuffer(content, np.float16).reshape(len(at), -1).astype(np.float32)
        return found[:, self._teacher.columns] if part == "logits" else found

    def _path(self, view: int, part: Part) -> Path:
        return self._folder / f"view-{view}.{part}"

    def _fits(self, view: int, part: Part) -> bool:
        path = self._path(view, part)
        with reading(path):
            return path.is_file() and path.stat().st_size == 2 * len(self._course.rows) * self._widths[part]

    def _teacher_asked(self, images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        if self._ask is None:
            self._ask = self._teach(self._teacher.run, "features" in self._parts)
        return self._ask(table(self._teacher.run.record.input)[images])

    def _answers(self, view: int) -> Iterator[list[Halves]]:
        """The teacher's outputs to all images of the course, some at a time."""
        run, course = self._teacher.run, self._course
        if self._source is None:
            self._source = self._images()
        rows = np.asarray(course.rows, np.int64)
        for first in range(0, len(rows), BATCH):
            some = rows[first : first + BATCH]
            images = self._source[slice(first, first + len(some))]
            varied = vary(images, some, seed=course.seed, view=view, policy=course.policy)
            with np.errstate(over="ignore"):
                answers = [each.astype(np.float16) for each in self._teacher_asked(varied)]
            if not all(np.isfinite(each).all() for each in answers):
                raise BadInput(f"{run.dir}: the teacher's answers are not finite; its weights are damaged")
            yield answers
            if self._progress is not None:
                self._progress(first + len(some), len(rows))


def ask_keras(run: Run, features: bool) -> Ask:
    """The teacher of a run, loaded and compiled: images (b, h, w, channels) float32 to logits (b, classes) and, with
    `features`, those of the layer "pooled" (b, width).

    Raises:
        BadInput: features are wanted and the teacher has no such layer.
    """
    import tensorflow as tf

    from toolkit.framework import load_keras

    model = run.model()
    outputs = [model.output]
    if features:
        if "pooled" not in {layer.name for layer in model.layers}:
            raise BadInput(f"{run.dir}: has no layer 'pooled' to take features from; teach with logits alone")
        outputs.append(model.get_layer("pooled").output)
    whole = load_keras().Model(model.inputs[0], outputs)

    def answers(images: Any) -> list[Any]:
        every = tf.nest.flatten(whole(images, training=False))  # Keras takes one output out of its list
        return [tf.reshape(each, (tf.shape(images)[0], -1)) for each in every]

    answer = tf.function(
        answers,
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]))],
        autograph=False,
    )
    return lambda images: [each.numpy() for each in answer(images)]


def _key(teacher: Teacher, course: Course) -> str:
    return hashlib.sha256(_about(teacher, course)).hexdigest()[:24]


def _about(teacher: Teacher, course: Course) -> bytes:
    images = "\n".join(f"{row} {file}" for row, file in zip(course.rows, course.files, strict=True))
    document = {
        "teacher_sha256": teacher.sha256,
        "data_sha256": course.data_sha256,
        "images_sha256": hashlib.sha256(images.encode()).hexdigest(),
        "images": len(course.rows),
        "input": teacher.run.record.input,
        "policy": course.policy,
        "seed": course.seed,
        "edition": EDITION,
    }
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"
