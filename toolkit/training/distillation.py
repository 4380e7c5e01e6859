"""A student learns what its teachers answer to the very pictures that it sees itself.

Answers softened by a temperature: Hinton et al. 2015, Distilling the knowledge in a neural network. The same view for
teacher and student: Beyer et al. 2022, Knowledge distillation: a good teacher is patient and consistent. Features of
the last layer through a projection that is learned and then dropped: Romero et al. 2015, FitNets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.data.images import Dataset
from toolkit.data.pictures import open_pictures
from toolkit.training.augment import Policy
from toolkit.training.lessons import Course, Lessons, Progress
from toolkit.training.recipe import Distil, Recipe
from toolkit.training.teachers import Teacher


class Distillation:
    """Extra targets for the loop: teachers' logits and, with a feature weight, their pooled features side by side.

    Args:
        lessons: one for each teacher.
        rows: (n,) the training images' rows in the data set, in the order of the lessons.
        features: the width of the student's pooled layer; only wanted with a feature weight.

    Raises:
        BadInput: a feature weight without a width.
    """

    def __init__(
        self,
        lessons: Sequence[Lessons],
        distil: Distil,
        rows: NDArray[np.integer],
        *,
        task: str = "classes",
        roles: Sequence[str],
        features: int | None = None,
        seed: int = 0,
    ) -> None:
        self._lessons, self._distil, self._task = list(lessons), distil, task
        self._marks = np.flatnonzero([role != "good" for role in roles])
        self._order = np.argsort(rows)
        self._rows = np.asarray(rows)[self._order]
        self.shapes: dict[str, tuple[int, ...]] = {"teacher_logits": (len(self._lessons), len(roles))}
        self.variables: list[Any] = []
        if distil.feature_weight:
            if not features:
                raise BadInput("the student has no layer 'pooled' to learn features in; leave the feature weight at 0")
            width = sum(each.width for each in self._lessons)
            self.shapes["teacher_features"] = (width,)
            self.variables = _projection(features, width, seed)

    def __call__(self, rows: NDArray[np.int64], view: int) -> dict[str, NDArray[np.float32]]:
        """The teachers' answers to images `rows` (b,) of the data set in a view: "teacher_logits" (b, teachers,
        classes) and "teacher_features" (b, width) where they are taught."""
        at = self._order[np.searchsorted(self._rows, rows)]
        logits = [each.answers(at, view) for each in self._lessons]
        found = {"teacher_logits": np.stack(logits, axis=1)}
        if self._distil.feature_weight:
            features = [each.answers(at, view, "features") for each in self._lessons]
            found["teacher_features"] = np.concatenate(features, axis=1)
        return found

    def combine(self, losses: Any, given: Mapping[str, Any], logits: Any, features: Any) -> Any:
        """(1 - weight) * losses + weight * T^2 * KL(teachers at temperature T || student at T) + feature_weight *
        (1 - cosine between the projected features and the teachers'), each (b,).

        Several teachers speak as the mean of their probabilities. With task "labels" the divergence is that of each
        mark, the mean over marks, and the good class takes no part.
        """
        import tensorflow as tf

        distil = self._distil
        diverging = _of_marks if self._task == "labels" else _of_choice
        apart = diverging(logits / distil.temperature, given["teacher_logits"] / distil.temperature, self._marks)
        total = (1 - distil.weight) * losses + distil.weight * distil.temperature**2 * apart
        if distil.feature_weight:
            kernel, bias = self.variables
            flat = tf.reshape(features, (tf.shape(features)[0], kernel.shape[0]))
            projected = tf.math.l2_normalize(tf.matmul(flat, kernel) + bias, axis=-1)
            wanted = tf.math.l2_normalize(given["teacher_features"], axis=-1)
            total += distil.feature_weight * (1 - tf.reduce_sum(projected * wanted, axis=-1))
        return total


def taught_by(recipe: Recipe, teachers: Sequence[Teacher], **given: float) -> tuple[Recipe, Distil]:
    """The recipe with teachers, and what they teach; `given` are other fields of Distil. Without a number of views
    there are as many as epochs: a new variation in each, and none that is shown once only.

    Raises:
        BadInput: a number out of range, or no epoch to learn in.
    """
    if not recipe.epochs:
        raise BadInput("a probe learns nothing from a teacher; give --epochs")
    distil = Distil(teachers=[teacher.sha256 for teacher in teachers], **given)
    found = msgspec.structs.replace(recipe, distil=distil, views=recipe.views or recipe.epochs)
    found.check()
    return found, distil


def open_distillation(
    teachers: Sequence[Teacher],
    distil: Distil,
    dataset: Dataset,
    rows: NDArray[np.integer],
    *,
    cache: Path,
    data_sha256: str,
    policy: Policy,
    seed: int,
    task: str,
    features: int | None,
    progress: Progress | None = None,
) -> Distillation:
    """The distillation of a student that is trained on the images `rows` of a data set, with answers kept in `cache`.

    `policy` and `seed` are those of the student's training; `features` is the width of its pooled layer, if it has one.

    Raises:
        NotWritable: the cache's folder cannot be written.
    """
    rows = np.asarray(rows, np.int64)
    course = Course(
        data_sha256=data_sha256,
        files=[dataset.files[row] for row in rows],
        rows=rows.tolist(),
        policy=policy,
        seed=seed,
    )
    lessons = [
        Lessons(
            teacher,
            cache,
            course,
            lambda spec=teacher.run.record.input: open_pictures(dataset, spec, rows, folder=cache),  # type: ignore[misc]
            features=distil.feature_weight > 0,
            progress=progress,
        )
        for teacher in teachers
    ]
    return Distillation(lessons, distil, rows, task=task, roles=dataset.roles, features=features, seed=seed)


def _projection(features: int, width: int, seed: int) -> list[Any]:
    """Kernel (features, width) and bias (width,), drawn as Glorot and Bengio 2010 do."""
    from toolkit.framework import load_keras

    keras = load_keras()
    limit = np.sqrt(6 / (features + width))
    kernel = np.random.default_rng([seed, 1]).uniform(-limit, limit, (features, width)).astype(np.float32)
    return [
        keras.Variable(kernel, dtype="float32", name="teachers_kernel"),
        keras.Variable(np.zeros(width, np.float32), dtype="float32", name="teachers_bias"),
    ]


def _of_choice(logits: Any, teachers: Any, marks: NDArray[np.int64]) -> Any:
    """KL divergence (b,) of the student's softmax from the mean of the teachers'."""
    import tensorflow as tf

    wanted = tf.reduce_mean(tf.nn.softmax(teachers), axis=1)
    return tf.reduce_sum(tf.math.xlogy(wanted, wanted) - wanted * tf.nn.log_softmax(logits), axis=-1)


def _of_marks(logits: Any, teachers: Any, marks: NDArray[np.int64]) -> Any:
    """The mean over marks of the KL divergence (b,) of the student's sigmoid from the mean of the teachers'."""
    import tensorflow as tf

    wanted = tf.reduce_mean(tf.sigmoid(tf.gather(teachers, marks, axis=-1)), axis=1)
    own = tf.nn.sigmoid_cross_entropy_with_logits(wanted, tf.gather(logits, marks, axis=-1))
    return tf.reduce_mean(own + tf.math.xlogy(wanted, wanted) + tf.math.xlogy(1 - wanted, 1 - wanted), axis=-1)
