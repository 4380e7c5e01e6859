"""What the student learns from: the formula in numpy, and where the answers come from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.models.architecture import Architecture
from toolkit.training.distillation import Distillation, taught_by
from toolkit.training.recipe import Distil, make_recipe

RNG = np.random.default_rng(0)
ROWS = np.array([40, 10, 30, 20])
LOGITS = RNG.normal(0, 2, (4, 3)).astype(np.float32)
TEACHERS = RNG.normal(0, 2, (4, 2, 3)).astype(np.float32)
HARD = RNG.uniform(0, 2, 4).astype(np.float32)
ROLES = ["defect", "good", "defect"]


class FakeLessons:
    """Answers that say which image, view and part were asked for."""

    def __init__(self, name: float, width: int = 2) -> None:
        self.name, self.width = name, width

    def answers(self, at: NDArray[np.int64], view: int, part: str = "logits") -> NDArray[np.float32]:
        wide = 3 if part == "logits" else self.width
        return np.outer(self.name + at + 100 * view, np.ones(wide)).astype(np.float32)


def _distillation(lessons: list[Any] | None = None, *, task: str = "classes", **options: Any) -> Distillation:
    features = options.pop("features", None)
    distil = Distil(teachers=["t"], **({"temperature": 3.0, "weight": 0.7} | options))
    return Distillation(
        lessons or [FakeLessons(0.0), FakeLessons(0.5)], distil, ROWS, task=task, roles=ROLES, features=features
    )


def _softmax(logits: Any) -> NDArray[np.float64]:
    odds = np.exp(np.asarray(logits, np.float64))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Any) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64))))


def _combined(distillation: Distillation, logits: NDArray[np.float32], features: Any = None, **given: Any) -> Any:
    return np.asarray(distillation.combine(HARD, {"teacher_logits": TEACHERS} | given, logits, features))


def test_rows_of_the_data_set_find_their_place_in_the_lessons() -> None:
    given = _distillation()(np.array([30, 40, 30]), 2)["teacher_logits"]
    assert given.shape == (3, 2, 3)
    assert given[:, 0, 0].tolist() == [202, 200, 202] and given[:, 1, 0].tolist() == [202.5, 200.5, 202.5]
    assert _distillation().shapes == {"teacher_logits": (2, 3)}


@pytest.mark.slow
def test_the_loss_is_that_of_hinton_with_the_mean_of_the_teachers_probabilities() -> None:
    wanted, own = _softmax(TEACHERS / 3).mean(axis=1), _softmax(LOGITS / 3)
    apart = (wanted * np.log(wanted / own)).sum(axis=1)
    assert apart.std() > 0.02
    assert _combined(_distillation(), LOGITS) == pytest.approx(0.3 * HARD + 0.7 * 9 * apart, rel=1e-4)
    assert _combined(_distillation(weight=0.0), LOGITS) == pytest.approx(HARD)


@pytest.mark.slow
def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn() -> None:
    import tensorflow as tf

    for task in ("classes", "labels", "hierarchy"):
        logits = tf.Variable(LOGITS)
        with tf.GradientTape() as tape:
            same = {"teacher_logits": LOGITS[:, None]}
            loss = _distillation(task=task, weight=1.0).combine(HARD, same, logits, None)
        assert np.abs(loss.numpy()).max() < 1e-5
        assert np.abs(tape.gradient(loss, logits).numpy()).max() < 1e-5


@pytest.mark.slow
def test_marks_diverge_one_by_one_and_the_good_class_takes_no_part() -> None:
    wanted, own = _sigmoid(TEACHERS / 3).mean(axis=1)[:, [0, 2]], _sigmoid(LOGITS / 3)[:, [0, 2]]
    apart = wanted * np.log(wanted / own) + (1 - wanted) * np.log((1 - wanted) / (1 - own))
    expected = 0.3 * HARD + 0.7 * 9 * apart.mean(axis=1)
    found = _combined(_distillation(task="labels"), LOGITS)
    assert found == pytest.approx(expected, rel=1e-4)
    moved = LOGITS.copy()
    moved[:, 1] = 40
    assert np.array_equal(_combined(_distillation(task="labels"), moved), found)


@pytest.mark.slow
def test_features_are_compared_by_direction_through_a_projection_that_learns() -> None:
    import tensorflow as tf

    distillation = _distillation(feature_weight=2.0, features=5)
    assert distillation.shapes["teacher_features"] == (4,), "both teachers, side by side"
    kernel, bias = distillation.variables
    assert kernel.shape == (5, 4) and bias.shape == (4,)
    features, teachers = RNG.normal(0, 1, (4, 5)).astype(np.float32), RNG.normal(0, 1, (4, 4)).astype(np.float32)
    given = {"teacher_logits": TEACHERS, "teacher_features": teachers}
    with tf.GradientTape() as tape:
        losses = distillation.combine(HARD, given, LOGITS, features)
    projected = features @ kernel.numpy() + bias.numpy()
    cosine = (projected * teachers).sum(axis=1) / np.linalg.norm(projected, axis=1) / np.linalg.norm(teachers, axis=1)
    assert cosine.std() > 0.1
    assert losses.numpy() - _combined(_distillation(), LOGITS) == pytest.approx(2 * (1 - cosine), rel=1e-3)
    assert all(np.abs(each.numpy()).max() > 1e-3 for each in tape.gradient(losses, [kernel.value, bias.value]))
    both = distillation(np.array([10]), 1)["teacher_features"]
    assert both.tolist() == [[101, 101, 101.5, 101.5]]


@pytest.mark.slow
def test_the_projection_hangs_on_the_seed_alone() -> None:
    one, two = (_distillation(feature_weight=1.0, features=5).variables[0].numpy() for _ in range(2))
    assert np.array_equal(one, two) and one.std() > 0.1


def test_features_without_a_layer_to_learn_them_in_are_refused() -> None:
    with pytest.raises(BadInput, match="no layer 'pooled'"):
        _distillation(feature_weight=1.0)


def test_a_course_names_the_images_of_the_training(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from toolkit.training import distillation as module
    from toolkit.training.augment import Policy

    seen: list[Any] = []
    monkeypatch.setattr(module, "Lessons", lambda *given, **options: seen.append((given, options)) or FakeLessons(0))
    run = SimpleNamespace(record=SimpleNamespace(input="spec"))
    dataset = SimpleNamespace(files=list("abcdef"), roles=ROLES)
    made = module.open_distillation(
        [SimpleNamespace(run=run)] * 2, Distil(teachers=["t", "u"]), dataset, np.array([4, 1]), cache=tmp_path,
        data_sha256="d", policy=Policy(), seed=3, task="classes", features=None,
    )  # type: ignore[list-item, arg-type]  # fmt: skip
    assert len(seen) == 2 and made.shapes["teacher_logits"] == (2, 3)
    course = seen[0][0][2]
    assert course.files == ["e", "b"] and course.rows == [4, 1] and course.seed == 3


def test_a_taught_recipe_names_its_teachers_and_repeats_its_views() -> None:
    teachers: list[Any] = [SimpleNamespace(sha256="t"), SimpleNamespace(sha256="u")]
    recipe, distil = taught_by(make_recipe(Architecture(), epochs=7), teachers, temperature=2.0)
    assert recipe.distil == distil == Distil(teachers=["t", "u"], temperature=2.0)
    assert recipe.views == 7, "a new variation in each epoch, and what fills a batch is one of them too"
    assert taught_by(make_recipe(Architecture(), epochs=7, views=3), teachers)[0].views == 3


@pytest.mark.parametrize(
    ("epochs", "given", "reason"),
    [
        (0, {}, "give --epochs"),
        (3, {"temperature": 0.0}, "temperature must be"),
        (3, {"weight": 1.5}, "weight must be"),
    ],
)
def test_a_recipe_that_nothing_can_be_learnt_by_is_refused(epochs: int, given: dict[str, float], reason: str) -> None:
    recipe = msgspec.structs.replace(make_recipe(Architecture()), epochs=epochs)
    with pytest.raises(BadInput, match=reason):
        taught_by(recipe, [SimpleNamespace(sha256="t")], **given)  # type: ignore[list-item]


def test_mixed_images_and_teachers_exclude_each_other() -> None:
    with pytest.raises(BadInput, match="without mixup"):
        taught_by(make_recipe(Architecture(), mixup=0.2), [SimpleNamespace(sha256="t")])  # type: ignore[list-item]
