"""A student is taught by a run, end to end: the teacher is asked once, warm and cold give the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from toolkit.cli import cli
from toolkit.runs import open_run
from toolkit.training.lessons import ask_keras

pytestmark = pytest.mark.slow
TINY = ["--width", "0.1", "--size", "32", "--batch", "16", "--split-seed", "0", "--seed", "0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "data", 90 images, and "teacher", a run on them."""
    pytest.importorskip("tensorflow")
    place = tmp_path_factory.mktemp("teaching")
    _run("data", "synth", str(place / "data"), "--images", "90", "--size", "32", "--photos-per-part", "1")
    _run("train", str(place / "data"), "--out", str(place / "teacher"), "--epochs", "1", *TINY)
    return place


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.output


def _distil(folder: Path, out: str, *more: str) -> list[np.ndarray[Any, Any]]:
    given = ["--teacher", str(folder / "teacher"), "--epochs", "2", "--teacher-cache", str(folder / "cache"), *more]
    _run("distill", str(folder / "data"), "--out", str(folder / out), *given, *TINY)
    return open_run(folder / out).model().get_weights()  # type: ignore[no-any-return]


def test_a_warm_cache_gives_the_same_student_without_asking_the_teacher(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolkit.training import lessons

    cold = _distil(folder, "cold", "--feature-weight", "0.5")
    views = sorted(path.name for path in (folder / "cache").rglob("view-*"))
    assert views == ["view-0.features", "view-0.logits", "view-1.features", "view-1.logits"]
    monkeypatch.setattr(lessons, "ask_keras", lambda *_: pytest.fail("the teacher is asked again"))
    warm = _distil(folder, "warm", "--feature-weight", "0.5")
    assert all(np.array_equal(one, two) for one, two in zip(cold, warm, strict=True))
    alone = _distil(folder, "alone", "--teacher-weight", "0")
    assert not all(np.array_equal(one, two) for one, two in zip(cold, alone, strict=True)), "the teacher moved it"
    record = open_run(folder / "cold").record.recipe
    assert record["distil"]["feature_weight"] == 0.5 and record["views"] == 2


@pytest.mark.parametrize("features", [False, True])
def test_a_teacher_answers_what_its_model_does(folder: Path, features: bool) -> None:
    run = open_run(folder / "teacher")
    model = run.model()
    images = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    logits, *more = ask_keras(run, features)(images)
    assert logits == pytest.approx(np.asarray(model(images, training=False)), abs=1e-4)
    assert [each.shape for each in more] == ([(3, model.get_layer("pooled").output.shape[-1])] if features else [])


def test_the_default_teaches_with_logits_alone(folder: Path) -> None:
    given = ["--teacher", str(folder / "teacher"), "--epochs", "1", *TINY]
    _run("distill", str(folder / "data"), "--out", str(folder / "plain"), *given)
    assert {path.name for path in (folder / "teaching").rglob("view-*")} == {"view-0.logits"}
    assert open_run(folder / "plain").record.recipe["distil"]["feature_weight"] == 0


def test_a_teacher_under_another_split_is_refused_before_anything_is_written(folder: Path) -> None:
    arguments = ["distill", str(folder / "data"), "--out", str(folder / "leak"), "--teacher", str(folder / "teacher")]
    result = CliRunner().invoke(cli, [*arguments, "--epochs", "1", "--split-seed", "5", "--size", "32"])
    assert result.exit_code == 1 and "was taught on" in str(result.exception)
    assert not (folder / "leak").exists()


def test_a_teacher_of_other_classes_is_refused(folder: Path) -> None:
    shutil.copytree(folder / "data", folder / "fewer", dirs_exist_ok=True)
    manifest = folder / "fewer" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",scratch,", ",groove,"))
    arguments = ["distill", str(folder / "fewer"), "--out", str(folder / "no"), "--teacher", str(folder / "teacher")]
    result = CliRunner().invoke(cli, [*arguments, "--epochs", "1", "--split-seed", "0"])
    assert result.exit_code == 1 and "teacher of other classes" in str(result.exception)


def test_without_a_teacher_or_without_epochs_there_is_nothing_to_distil(folder: Path) -> None:
    base = ["distill", str(folder / "data"), "--out", str(folder / "no")]
    for more, reason in (
        ([], "needs a teacher"),
        (["--teacher", str(folder / "teacher"), "--epochs", "0", "--split-seed", "0"], "epochs"),
    ):
        result = CliRunner().invoke(cli, [*base, *more])
        assert result.exit_code == 1 and reason in str(result.exception)
