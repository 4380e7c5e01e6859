"""`lineside train` on the command line: its help, its errors, and prevalence."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, LinesideError
from toolkit.commands.train import parse_prevalence, train
from toolkit.data.images import open_dataset
from toolkit.data.split_file import read_split_file, write_split_file
from toolkit.data.splits import split
from toolkit.data.synth import SynthRecipe, synthesize
from toolkit.evaluation.metrics import measure
from toolkit.training.recipe import Recipe
from toolkit.training.results import TrainingResult


def test_help_ends_with_an_example_and_needs_no_framework() -> None:
    result = CliRunner().invoke(train, ["--help"])
    assert result.exit_code == 0 and "Example: lineside train" in result.output
    assert "keras" not in sys.modules or "toolkit.training.trainer" in sys.modules


def test_prevalence_spreads_the_rest() -> None:
    assert parse_prevalence("good=0.99, pit=0.004", ["crack", "good", "pit", "stain"]) == [0.003, 0.99, 0.004, 0.003]
    assert parse_prevalence("a=0.5,b=0.5", ["a", "b"]) == [0.5, 0.5]
    assert parse_prevalence("b, worn=0.4,a=b=0.5,c=0.1", ["a=b", "b, worn", "c"]) == [0.5, 0.4, 0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good", "must read like .*got 'good'"),
        ("good=x", "must read like .*got 'good=x'"),
        ("good=nan", "must read like .*got 'good=nan'"),
        ("good=-0.1", "must read like .*got 'good=-0.1'"),
        ("perfect=0.9", "'perfect' is none of the classes good, pit"),
        ("good=0.9,pit", "got 'pit'"),
        ("good=0.9,good=0.8", "prevalence of good is stated twice"),
        ("good=0.9,pit=0.3", r"add up to 1\.2"),
        ("good=0.5,pit=0.3", r"add up to 0\.8"),
    ],
)
def test_prevalence_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_prevalence(text, ["good", "pit"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "12"], "size must be 16 to 1024 px, got 12"),
        (["--weights", "nowhere.h5"], r"nowhere\.h5: no such file"),
        (["--epochs", "0"], "epochs must be 1"),
        ([], r"no-data: no such folder"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path: Path, options: list[str], message: str) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(train, [str(tmp_path / "no-data"), "--out", str(out), *options])
    assert isinstance(result.exception, LinesideError)
    with pytest.raises(LinesideError, match=message):
        raise result.exception
    assert "\n" not in str(result.exception) and not out.exists()


@pytest.mark.parametrize(
    ("options", "seed"), [([], 0), (["--seed", "3"], 3), (["--seed", "3", "--split-seed", "5"], 5)]
)
def test_the_split_has_a_seed_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], seed: int
) -> None:
    synthesize(tmp_path / "set", SynthRecipe(images=60, size=32, photos_per_part=1))
    seen: dict[str, object] = {}

    def stop(dataset: object, split: object, out: Path, recipe: Recipe, **rest: object) -> None:
        seen.update(split=split, flips=recipe.flips)
        raise BadInput("enough")

    monkeypatch.setattr("toolkit.training.trainer.train", stop)
    arguments = [str(tmp_path / "set"), "--out", str(tmp_path / "run"), "--flips", "up-down", *options]
    assert isinstance(CliRunner().invoke(train, arguments).exception, BadInput)
    assert np.array_equal(seen["split"], split(open_dataset(tmp_path / "set"), seed)) and seen["flips"] == "up-down"


def test_a_split_file_stands_above_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesize(tmp_path / "set", SynthRecipe(images=90, size=32, photos_per_part=1))
    data = open_dataset(tmp_path / "set")
    write_split_file(data, tmp_path / "set/split.csv", seed=8)
    write_split_file(data, tmp_path / "folds.csv", k=3)
    seen: dict[str, object] = {}

    def stop(dataset: object, split: object, out: Path, recipe: Recipe, **rest: object) -> None:
        seen.update(split=split)
        raise BadInput("enough")

    def said(*options: str) -> str:
        arguments = [str(tmp_path / "set"), "--out", str(tmp_path / "run"), *options]
        return str(CliRunner().invoke(train, arguments).exception)

    monkeypatch.setattr("toolkit.training.trainer.train", stop)
    folds = str(tmp_path / "folds.csv")
    assert said("--seed", "3") == "enough" and np.array_equal(seen["split"], split(data, 8))
    assert said("--split", folds, "--fold", "2") == "enough"
    assert np.array_equal(seen["split"], read_split_file(tmp_path / "folds.csv", data, fold=2))
    assert "--split-seed would draw another" in said("--split-seed", "3")
    assert "has no folds, got fold 1" in said("--fold", "1")
    (tmp_path / "set/split.csv").unlink()
    assert said("--seed", "3") == "enough" and np.array_equal(seen["split"], split(data, 3))
    assert "no split file there" in said("--fold", "1")


def _set(folder: Path, **files: str) -> Path:
    """A data set of 12 parts in four classes, with files put over it."""
    synthesize(folder, SynthRecipe(images=60, size=32, photos_per_part=1))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"manifest_csv": "picture,class\na.png,good\n"}, [], "manifest.csv: no column file; it has picture, class"),
        ({"labels_json": '{"rust": "good"}'}, [], "no class 'rust'"),
        ({"recipe_toml": "epoch = 3"}, ["--recipe", "{set}/recipe.toml"], "did you mean 'epochs'"),
        ({}, ["--recipe", "{set}/none.toml"], "none.toml: no such recipe"),
        ({}, ["--temperature", "2"], "--temperature is for a training with --teacher"),
        ({}, ["--teacher", "{set}/nobody"], "nobody"),
        ({}, ["--distribute", "multi-worker"], "multi-worker needs TF_CONFIG on each machine, like"),
        ({}, ["--task", "labels"], "task labels needs a manifest with several labels in a cell"),
        ({}, ["--size", "32x"], "size must be like 96, or 24x40"),
        ({}, ["--weights", "{set}/manifest.csv", "--width", "0.05"], "manifest.csv: is no file of Keras weights"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_and_leaves_nothing(
    tmp_path: Path, files: dict[str, str], options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    data, out = _set(tmp_path / "set", **files), tmp_path / "run"
    options = [option.replace("{set}", str(data)) for option in options]
    if "--weights" in options:
        pytest.importorskip("tensorflow")
    result = CliRunner().invoke(train, [str(data), "--out", str(out), *options])
    assert isinstance(result.exception, LinesideError), result.exception
    assert result.exception.exit_code == 1 and "\n" not in str(result.exception)
    with pytest.raises(LinesideError, match=message):
        raise result.exception
    assert not out.exists()


def test_a_class_of_one_image_is_named(tmp_path: Path) -> None:
    data = _set(tmp_path / "set")
    lines = (data / "manifest.csv").read_text().splitlines()
    place = lines[0].split(",").index("class")
    rows = [line.split(",") for line in lines[1:]]
    rows[0][place] = "burr"
    keep = [name for name in lines[0].split(",") if name != "split"]
    where = [lines[0].split(",").index(name) for name in keep]
    text = [",".join(keep), *(",".join(row[at] for at in where) for row in rows)]
    (data / "manifest.csv").write_text("\n".join(text) + "\n")
    result = CliRunner().invoke(train, [str(data), "--out", str(tmp_path / "run")])
    with pytest.raises(BadInput, match="too few groups for the three splits: 'burr' has 1 group"):
        raise result.exception or AssertionError(result.output)


def test_options_stand_above_a_recipe_file_and_this_above_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _set(tmp_path / "set", recipe_toml='epochs = 7\noptimizer = "lion"\nsize = 64\nseed = 9\n')
    seen: list[Recipe] = []

    def stop(dataset: object, split: object, out: Path, recipe: Recipe, **rest: object) -> None:
        seen.append(recipe)
        raise BadInput("enough")

    monkeypatch.setattr("toolkit.training.trainer.train", stop)
    file = ["--recipe", str(data / "recipe.toml"), "--epochs", "3", "--size", "24x40", "--model", "mobilenet-v3-small"]
    CliRunner().invoke(train, [str(data), "--out", str(tmp_path / "run"), *file])
    found = seen[0]
    assert (found.epochs, found.optimizer, found.seed, found.batch) == (3, "lion", 9, 32)
    assert (found.architecture.size, found.architecture.size_width) == (24, 40)
    assert found.architecture.family == "mobilenet-v3-small"


def test_auto_says_why_and_leaves_what_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = _set(tmp_path / "set"), {}

    def stop(dataset: object, split: object, out: Path, recipe: Recipe, **rest: object) -> None:
        seen.update(rest, recipe=recipe)
        raise BadInput("enough")

    monkeypatch.setattr("toolkit.training.trainer.train", stop)
    options = ["--recipe", "auto", "--loss", "focal", "--epochs", "5"]
    result = CliRunner().invoke(train, [str(data), "--out", str(tmp_path / "run"), *options])
    assert seen["recipe"].loss == "focal" and seen["recipe"].epochs == 5
    assert seen["reasons"] and all(f"recipe: {reason}" in result.stderr for reason in seen["reasons"])


@pytest.mark.parametrize(
    ("epoch", "blend", "kept"),
    [(0, 1.0, "the probe"), (8, 1.0, "epoch 8"), (8, 0.75, "75 % of the way from the probe to epoch 8")],
)
def test_the_last_words_say_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, blend: float, kept: str
) -> None:
    metrics = measure(np.eye(2)[[0, 1, 1]], np.array([0, 1, 1]))

    def done(dataset: object, split: object, out: Path, recipe: Recipe, **rest: object) -> TrainingResult:
        return TrainingResult(
            run=str(out), already_trained=False, start="probe", epoch=epoch, blend=blend, epochs=9, metrics=metrics,
            seconds=3.0,
        )  # fmt: skip

    monkeypatch.setattr("toolkit.training.trainer.train", done)
    result = CliRunner().invoke(train, [str(_set(tmp_path / "set")), "--out", str(tmp_path / "run")])
    assert f"on 3 validation images ({kept}, 3 s)" in result.output


def test_help_is_sorted_under_headings() -> None:
    text = CliRunner().invoke(train, ["--help"]).output
    headings = ["The run:", "The network:", "Task and imbalance:", "Steps:", "Variations:", "Teachers:", "Options:"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert text.index("Steps:") < text.index("--optimizer") < text.index("Variations:")


def test_a_student_does_not_take_the_place_of_its_teacher(tmp_path: Path) -> None:
    arguments = [
        str(tmp_path),
        "--teacher",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "x" / ".." / "run"),
        "--replace",
    ]
    error = CliRunner().invoke(train, arguments).exception
    assert isinstance(error, BadInput) and "is the teacher; the student needs another folder" in str(error)
