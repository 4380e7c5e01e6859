"""Known failures are kept once, checked by digest, and named when they fail again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, NotFound
from toolkit.evaluation.answers import Answers, answers_of
from toolkit.evaluation.failures import check_failures, keep_failures, read_failures
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.scores import judge
from toolkit.runs import Run

NAMES = ["bright", "dark", "good"]


@pytest.fixture
def asked(tiny_run: Run) -> tuple[Judged, Answers]:
    answers = answers_of(tiny_run, "onnx-fp32", "val")
    return judge(tiny_run, answers, 1.0), answers


def test_what_is_wrong_is_kept_and_is_wrong_again(tiny_run: Run, asked: tuple[Judged, Answers], tmp_path: Path) -> None:
    path = tmp_path / "repository" / "failures.csv"
    judged, answers = asked
    wrong = [file for file, one, label in zip(answers.files, judged.logits.argmax(axis=1), judged.labels, strict=True)
             if one != label]  # fmt: skip
    assert keep_failures(tiny_run, *asked, path) == len(wrong) > 3
    assert [(path.parent / one.file).resolve() for one in read_failures(path, NAMES)] == [
        (tiny_run.dataset().dir / file).resolve() for file in wrong
    ]
    found = check_failures(tiny_run, "onnx-fp32", path)
    assert found.images == len(found.failed) == len(wrong) and found.trained_on == 0
    assert {one.wanted for one in found.failed} <= set(NAMES) and all(one.said != one.wanted for one in found.failed)


def test_keeping_again_adds_nothing_and_loses_no_column(
    tiny_run: Run, asked: tuple[Judged, Answers], tmp_path: Path
) -> None:
    path = tmp_path / "failures.csv"
    keep_failures(tiny_run, *asked, path)
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([f"{first},note", f"{rest[0]},why", *(f"{line}," for line in rest[2:])]) + "\n")
    assert keep_failures(tiny_run, *asked, path) == 1
    again = path.read_text().splitlines()
    assert again[0] == "file,class,sha256,note" and again[1].endswith(",why") and len(again) == len(rest) + 1
    assert again[-1] == f"{rest[1]},"


def test_right_answers_pass_and_training_images_are_counted(tiny_run: Run, tmp_path: Path) -> None:
    dataset, row = tiny_run.dataset(), tiny_run.rows("train")[0]
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "a.png").write_bytes((dataset.dir / dataset.files[row]).read_bytes())
    cv2.imwrite(str(tmp_path / "known" / "b.png"), np.full((16, 16, 3), 20, np.uint8))
    path = tmp_path / "known" / "list.csv"
    path.write_text(f"file,class\na.png,{dataset.names[dataset.labels[row]]}\nb.png,dark\n")
    found = check_failures(tiny_run, "onnx-fp32", path)
    assert (found.images, found.trained_on) == (2, 1) and "b.png" not in [one.file for one in found.failed]
    path.write_text("file,class\nb.png,bright\n")
    (failed,) = check_failures(tiny_run, "onnx-fp32", path).failed
    assert (failed.file, failed.wanted, failed.said) == ("b.png", "bright", "dark")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,class\n", "no image"),
        ("file\na.png\n", "no column class or label"),
        ("file,class\na.png,rust\n", "no class 'rust' in the run; it has bright, dark, good"),
        ("file,class\nb.png,dark\n", "b.png does not exist"),
        (f"file,class,sha256\na.png,dark,{'0' * 64}\n", "another image than the one that was kept"),
    ],
)
def test_a_list_that_cannot_be_checked_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_failures(tmp_path / "list.csv", NAMES)


def test_a_list_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--keep-failures"):
        read_failures(tmp_path / "list.csv", NAMES)


def test_two_truths_for_one_image_are_refused(tiny_run: Run, asked: tuple[Judged, Answers], tmp_path: Path) -> None:
    path = tmp_path / "failures.csv"
    keep_failures(tiny_run, *asked, path)
    path.write_text(path.read_text().replace(",good,", ",dark,"))
    with pytest.raises(BadInput, match="is kept as dark, the data set says good"):
        keep_failures(tiny_run, *asked, path)
