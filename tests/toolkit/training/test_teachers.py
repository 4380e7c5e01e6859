"""A teacher is taken only where its classes are the student's and the student's figures stay true."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.manifest import Label
from toolkit.data.images import Dataset, open_dataset
from toolkit.runs import Run, write_record, write_split
from toolkit.training.teachers import open_teachers


@pytest.fixture
def student(tiny_run: Run) -> Dataset:
    """The data set of the teacher; its split is the manifest's."""
    return open_dataset(tiny_run.record.data)


def _splits(dataset: Dataset) -> np.ndarray:
    assert dataset.splits is not None
    return dataset.splits.copy()


def _relabelled(run: Run, labels: list[Label]) -> None:
    write_record(run.dir, msgspec.structs.replace(run.record, labels=labels))


def test_a_teacher_under_the_same_split_is_taken(tiny_run: Run, student: Dataset) -> None:
    (teacher,) = open_teachers([tiny_run.dir], student, _splits(student))
    assert teacher.columns.tolist() == [0, 1, 2] and teacher.notes == []
    assert len(teacher.sha256) == 64


def test_the_same_classes_in_another_order_are_put_in_order_and_that_is_said(tiny_run: Run, student: Dataset) -> None:
    _relabelled(tiny_run, [tiny_run.labels[place] for place in (2, 0, 1)])
    (teacher,) = open_teachers([tiny_run.dir], student, _splits(student))
    assert teacher.columns.tolist() == [1, 2, 0], "the first of the student's classes is the teacher's second"
    assert "another order" in teacher.notes[0]


def test_other_classes_are_refused_by_name(tiny_run: Run, student: Dataset) -> None:
    _relabelled(tiny_run, [*tiny_run.labels[:2], Label("rust", "defect")])
    with pytest.raises(BadInput, match="teacher of other classes: it lacks good and has rust"):
        open_teachers([tiny_run.dir], student, _splits(student))


def test_fewer_classes_are_refused(tiny_run: Run, student: Dataset) -> None:
    _relabelled(tiny_run, list(tiny_run.labels[:2]))
    with pytest.raises(BadInput, match="it lacks good;"):
        open_teachers([tiny_run.dir], student, _splits(student))


def test_another_role_is_refused(tiny_run: Run, student: Dataset) -> None:
    _relabelled(tiny_run, [Label("bright", "good"), *tiny_run.labels[1:]])
    with pytest.raises(BadInput, match="'bright' is good to this teacher; roles must agree"):
        open_teachers([tiny_run.dir], student, _splits(student))


def test_another_task_is_refused(tiny_run: Run, student: Dataset) -> None:
    with pytest.raises(BadInput, match="task classes cannot teach task labels"):
        open_teachers([tiny_run.dir], student, _splits(student), task="labels")
    assert open_teachers([tiny_run.dir], student, _splits(student), task="hierarchy")


def test_the_same_teacher_twice_is_refused(tiny_run: Run, student: Dataset) -> None:
    with pytest.raises(BadInput, match="given twice"):
        open_teachers([tiny_run.dir, tiny_run.dir], student, _splits(student))


def test_no_run_and_an_unfinished_one_are_named(tiny_run: Run, student: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no run\.json"):
        open_teachers([tmp_path / "nothing"], student, _splits(student))
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, status="training"))
    with pytest.raises(BadInput, match="not finished"):
        open_teachers([tiny_run.dir], student, _splits(student))


@pytest.mark.parametrize(
    ("taught", "judged", "refused"),
    [
        ("train", "test", True),
        ("train", "val", True),
        ("val", "test", True),
        ("val", "val", False),
        ("test", "val", False),
        ("test", "test", False),
        ("test", "train", False),
    ],
)
def test_a_teacher_that_knows_the_students_judges_is_refused(
    tiny_run: Run, student: Dataset, taught: str, judged: str, refused: bool
) -> None:
    split, theirs = np.full(len(student), "out", "<U5"), np.full(len(student), "out", "<U5")
    split[:], theirs[:] = "train", "test"
    split[7], theirs[7] = judged, taught
    lone = replace(student, groups=np.array(student.files))
    _retaught(tiny_run, lone, theirs)
    if refused:
        with pytest.raises(BadInput, match=f"taught on 1 images.*{judged} split, first {student.files[7]}"):
            open_teachers([tiny_run.dir], lone, split)
    else:
        assert open_teachers([tiny_run.dir], lone, split)


def test_another_photograph_of_a_part_that_was_taught_is_a_leak_too(tiny_run: Run, student: Dataset) -> None:
    split, theirs = np.full(len(student), "train", "<U5"), np.full(len(student), "test", "<U5")
    split[7], theirs[8] = "test", "train"
    groups = np.array(student.files)
    _retaught(tiny_run, replace(student, groups=groups), theirs)
    assert open_teachers([tiny_run.dir], replace(student, groups=groups), split)
    groups[7] = groups[8]
    with pytest.raises(BadInput, match="or on parts, of this training's test split"):
        open_teachers([tiny_run.dir], replace(student, groups=groups), split)


def test_a_part_that_the_student_has_no_other_picture_of_is_a_leak_too(tiny_run: Run, student: Dataset) -> None:
    groups, theirs = np.array(student.files), np.full(len(student), "test", "<U5")
    groups[7], theirs[8] = groups[8], "train"
    _retaught(tiny_run, replace(student, groups=groups), theirs)
    fewer = replace(student, groups=groups).only([row for row in range(len(student)) if row != 8])
    split = np.full(len(fewer), "train", "<U5")
    split[7] = "test"
    with pytest.raises(BadInput, match="or on parts, of this training's test split"):
        open_teachers([tiny_run.dir], fewer, split)


def test_a_manifest_that_was_named_is_read_for_the_teachers_images(
    tiny_run: Run, student: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(student.dir, tmp_path / "named")
    (tmp_path / "named" / "manifest.csv").rename(tmp_path / "named" / "night.csv")
    record = msgspec.structs.replace(tiny_run.record, data=str(tmp_path / "named" / "night.csv"))
    write_record(tiny_run.dir, record)
    unfair = np.where(_splits(student) == "train", "test", "train")
    with pytest.raises(BadInput, match="this training's test split"):
        open_teachers([tiny_run.dir], student, unfair)


def test_images_of_the_teacher_that_are_gone_are_counted(tiny_run: Run, student: Dataset) -> None:
    theirs = replace(student, files=[f"before/{file}" for file in student.files[:3]] + student.files[3:])
    _retaught(tiny_run, theirs, _splits(student))
    (teacher,) = open_teachers([tiny_run.dir], student, _splits(student))
    assert f"cannot be found out for 3 of its {len(student)} images" in teacher.notes[0]


def test_a_copy_of_the_images_under_other_names_is_found(tiny_run: Run, student: Dataset, tmp_path: Path) -> None:
    lines = ["file,class"]
    for place, file in enumerate(student.files):
        name = f"copy-{place}.png"
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(student.dir / file, tmp_path / "copy" / name)
        lines.append(f"{name},{student.names[student.labels[place]]}")
    (tmp_path / "copy" / "manifest.csv").write_text("\n".join(lines) + "\n")
    copy = open_dataset(tmp_path / "copy")
    fair = _splits(student)
    assert open_teachers([tiny_run.dir], copy, fair)[0].notes == []
    unfair = np.where(fair == "train", "test", "train")
    with pytest.raises(BadInput, match=r"this training's test split, first copy-0\.png"):
        open_teachers([tiny_run.dir], copy, unfair)


def test_where_the_teachers_images_are_gone_that_is_said(tiny_run: Run, student: Dataset, tmp_path: Path) -> None:
    write_record(tiny_run.dir, msgspec.structs.replace(tiny_run.record, data=str(tmp_path / "gone")))
    (teacher,) = open_teachers([tiny_run.dir], student, _splits(student))
    assert "cannot be found out" in teacher.notes[0] and "gone" in teacher.notes[0]


def _retaught(run: Run, dataset: Dataset, split: np.ndarray) -> None:
    """The teacher as if it had been trained under another split."""
    write_split(run.dir / "split.csv", dataset, split)
    write_record(run.dir, msgspec.structs.replace(run.record, split_sha256=""))
