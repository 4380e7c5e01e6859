"""Teachers' answers are computed once a view, kept wholly or not at all, and given back in the student's terms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, NotWritable
from device_agent.contract.manifest import InputSpec
from device_agent.preprocess import table
from toolkit.training.augment import Policy, vary
from toolkit.training.lessons import BATCH, Course, Lessons
from toolkit.training.teachers import Teacher

SPEC = InputSpec(height=8, width=8)
COUNT = BATCH + 7
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
ROWS = np.arange(COUNT) * 3 + 5
POLICY = Policy()
SLOPES = np.array([1.0, -2.0, 3.0])


class FakeTeacher:
    """Logits from the mean light of a picture, features from its corners; counts how often it is asked and loaded."""

    def __init__(self) -> None:
        self.asked = self.loaded = 0
        self.broken_from: int | None = None

    def __call__(self, run: Any, features: bool) -> Any:
        self.loaded += 1

        def ask(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
            self.asked += 1
            if self.broken_from is not None and self.asked >= self.broken_from:
                raise BadInput("the teacher fell over")
            logits = np.outer(images.mean(axis=(1, 2, 3)), SLOPES)
            return [logits, images[:, 0, 0]] if features else [logits]

        return ask


def _course(**changes: Any) -> Course:
    fields = {"data_sha256": "d", "files": [f"{row}.png" for row in ROWS], "rows": ROWS.tolist()}
    return Course(**(fields | {"policy": POLICY, "seed": 4} | changes))


def _lessons(cache: Path, teacher: FakeTeacher, *, sha256: str = "t", **options: Any) -> Lessons:
    run = SimpleNamespace(dir=Path("runs/teacher"), record=SimpleNamespace(input=SPEC))
    course = options.pop("course", _course())
    found = Teacher(run, sha256, options.pop("columns", np.arange(3)), [])  # type: ignore[arg-type]
    return Lessons(found, cache, course, options.pop("images", lambda: IMAGES), teach=teacher, **options)


def _light(view: int, at: NDArray[np.integer]) -> NDArray[np.floating]:
    varied = vary(IMAGES[at], ROWS[at], seed=4, view=view, policy=POLICY)
    return np.asarray(table(SPEC)[varied].mean(axis=(1, 2, 3)))


def test_answers_are_those_to_the_students_own_pictures(tmp_path: Path) -> None:
    lessons, at = _lessons(tmp_path, FakeTeacher()), np.array([COUNT - 1, 3, 3, 0])
    for view in (1, 2):
        found = lessons.answers(at, view)
        assert found.dtype == np.float32 and found.std() > 0.05
        assert found == pytest.approx(np.outer(_light(view, at), SLOPES), abs=2e-3)
    assert np.abs(lessons.answers(at, 1) - lessons.answers(at, 2)).max() > 0.01


def test_a_view_costs_the_teacher_once_for_all_students(tmp_path: Path) -> None:
    teacher = FakeTeacher()
    lessons = _lessons(tmp_path, teacher)
    for _ in range(3):
        lessons.answers(np.array([1]), 7)
    assert (teacher.asked, teacher.loaded) == (2, 1), "two batches, the teacher loaded once"
    later = _lessons(tmp_path, teacher, images=lambda: pytest.fail("no picture is wanted"))
    assert np.array_equal(later.answers(np.array([5]), 7), lessons.answers(np.array([5]), 7))
    assert (teacher.asked, teacher.loaded) == (2, 1), "a later student finds everything"


@pytest.mark.parametrize(
    "change",
    [{"data_sha256": "e"}, {"policy": Policy(light=0)}, {"seed": 5}, {"files": [f"x{row}.png" for row in ROWS]}],
    ids=["data", "policy", "seed", "images"],
)
def test_another_course_or_teacher_has_answers_of_its_own(tmp_path: Path, change: dict[str, Any]) -> None:
    teacher = FakeTeacher()
    _lessons(tmp_path, teacher).answers(np.array([0]), 1)
    _lessons(tmp_path, teacher, course=_course(**change)).answers(np.array([0]), 1)
    _lessons(tmp_path, teacher, sha256="u").answers(np.array([0]), 1)
    assert teacher.asked == 6


def test_a_view_that_was_broken_off_leaves_nothing_and_is_asked_again(tmp_path: Path) -> None:
    teacher = FakeTeacher()
    lessons = _lessons(tmp_path, teacher)
    lessons.prepare(1)
    teacher.broken_from = teacher.asked + 2
    with pytest.raises(BadInput, match="fell over"):
        lessons.prepare(2)
    assert [path.name for path in sorted(tmp_path.rglob("*")) if path.is_file()] == ["about.json", "view-1.logits"]
    teacher.broken_from = None
    again = _lessons(tmp_path, teacher)
    asked = teacher.asked
    again.answers(np.array([0]), 1)
    assert teacher.asked == asked, "the view before is kept"
    again.answers(np.array([0]), 2)
    assert teacher.asked == asked + 2


def test_a_file_of_another_length_is_made_anew(tmp_path: Path) -> None:
    teacher, at = FakeTeacher(), np.array([COUNT - 1])
    wanted = _lessons(tmp_path, teacher).answers(at, 1)
    path = next(tmp_path.rglob("view-1.logits"))
    path.write_bytes(path.read_bytes()[:-6])
    assert np.array_equal(_lessons(tmp_path, teacher).answers(at, 1), wanted)
    assert teacher.asked == 4


def test_features_are_added_to_a_cache_that_has_logits_only(tmp_path: Path) -> None:
    teacher, at = FakeTeacher(), np.array([2, 9])
    _lessons(tmp_path, teacher).answers(at, 1)
    lessons = _lessons(tmp_path, teacher, features=True)
    varied = vary(IMAGES[at], ROWS[at], seed=4, view=1, policy=POLICY)
    assert lessons.answers(at, 1, "features") == pytest.approx(table(SPEC)[varied][:, 0, 0], abs=2e-3)
    assert lessons.width == 3
    asked = teacher.asked
    warm = _lessons(tmp_path, teacher, features=True)
    assert warm.width == 3 and warm.answers(at, 1, "features").shape == (2, 3)
    assert teacher.asked == asked, "the width is known from the cache, without the teacher"


def test_a_teachers_classes_come_in_the_students_order(tmp_path: Path) -> None:
    at = np.arange(5)
    plain = _lessons(tmp_path, FakeTeacher()).answers(at, 1)
    turned = _lessons(tmp_path, FakeTeacher(), columns=np.array([2, 0, 1])).answers(at, 1)
    assert np.array_equal(turned, plain[:, [2, 0, 1]]) and plain.std() > 0.05


def test_answers_that_are_not_finite_are_refused_and_not_kept(tmp_path: Path) -> None:
    def teach(run: Any, features: bool) -> Any:
        return lambda images: [np.full((len(images), 3), 1e6)]

    with pytest.raises(BadInput, match="runs/teacher: the teacher's answers are not finite"):
        _lessons(tmp_path, teach).prepare(1)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("view-*"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(NotWritable, match="cache"):
        _lessons(tmp_path / "cache", FakeTeacher())
