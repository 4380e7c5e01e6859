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
from toolkit.data.splits import split
from toolkit.data.synth import SynthRecipe, synthesize
from toolkit.training.recipe import Recipe


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
        ("good", "must be like"),
        ("good=x", "must be like"),
        ("good=nan", "must be like"),
        ("good=-0.1", "must be like"),
        ("perfect=0.9", "must be like .*classes good, pit"),
        ("good=0.9,pit", "got 'pit'"),
        ("good=0.9,good=0.8", "class 'good' is given twice"),
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
        (["--size", "20"], "size must be 32 to 512 px, got 20"),
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
