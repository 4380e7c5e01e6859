"""`lineside data split`: what a person sees, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput
from toolkit.commands.data.split import parse_shares, split
from toolkit.data.images import open_dataset
from toolkit.data.split_file import read_split_file
from toolkit.data.synth import SynthRecipe, synthesize


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split") / "set"
    synthesize(folder, SynthRecipe(images=300, size=32))
    manifest = folder / "manifest.csv"
    lines = manifest.read_text().splitlines()
    times = [f"2026-03-{1 + number // 10:02d}T00:{number % 60:02d}:00Z" for number in range(len(lines) - 1)]
    manifest.write_text("\n".join([lines[0] + ",time", *map(",".join, zip(lines[1:], times, strict=True))]) + "\n")
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(split, [str(argument) for argument in arguments])


def test_by_group_and_for_a_program(drawn: Path, tmp_path: Path) -> None:
    result = call(drawn, "--out", tmp_path / "s.csv", "--seed", 4)
    assert result.exit_code == 0 and "300 images, 100 groups, by group, seed 4, sha256 " in result.output
    assert "good" in result.output and str(tmp_path / "s.csv") in result.output
    document = json.loads(call(drawn, "--out", tmp_path / "s.csv", "--seed", 4, "--json").output)
    assert document["note"]["sha256"][:16] in result.output and document["periods"] == []
    assert len(read_split_file(tmp_path / "s.csv", open_dataset(drawn))) == 300


def test_by_time_the_cuts_are_printed(drawn: Path, tmp_path: Path) -> None:
    result = call(drawn, "--out", tmp_path / "s.csv", "--by", "time", "--shares", "0.5,0.25,0.25")
    assert result.exit_code == 0, result.exception
    assert "cut after 2026-03-" in result.output and "stands whole on the later side" in result.output
    assert "  train 2026-03-01T00:00:00 to 2026-03-" in result.output


def test_folds_are_counted(drawn: Path, tmp_path: Path) -> None:
    result = call(drawn, "--out", tmp_path / "s.csv", "--folds", 3)
    assert "folds of " in result.output and "fold 0 is test, fold 1 is val" in result.output


@pytest.mark.parametrize(
    "text", ["", "1", "0.5,0.5", "0.7,0.2,0.2", "0.8,0.2,0", "a,b,c", "nan,nan,nan", "1.2,-0.1,-0.1"]
)
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="shares must be three numbers above 0 that add up to 1"):
        parse_shares(text)
