"""`lineside data import`: from the command line to a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from device_agent.contract.errors import BadInput
from toolkit.commands.data.import_ import import_, parse_range
from toolkit.data.images import open_dataset


@pytest.fixture
def file(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 4096, (6, 8, 8), np.uint16)
    np.savez(
        tmp_path / "a.npz", x=images, labels=np.arange(6) % 2, classes=np.array(["ok", "pit"]), part=np.arange(6) // 2
    )
    return tmp_path / "a.npz"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(import_, [str(argument) for argument in arguments])


def test_every_option_arrives(file: Path, tmp_path: Path) -> None:
    options = ["--images", "x", "--range", "0,4095", "--group", "part", "--column", "serial=part", "--good", "pit"]
    result = call(file, tmp_path / "set", *options, "--json")
    assert result.exit_code == 0, result.exception
    document = json.loads(result.output)
    assert document["classes"] == {"ok": 3, "pit": 3} and document["range"] == [0, 4095]
    data = open_dataset(tmp_path / "set")
    assert data.groups.tolist() == ["0", "0", "1", "1", "2", "2"] and list(data.columns) == ["index", "serial"]
    assert data.roles == ["good", "good"]


def test_without_groups_it_says_so(file: Path, tmp_path: Path) -> None:
    result = call(file, tmp_path / "set", "--images", "x", "--range", "0,4095")
    assert "6 images, 8 x 8 px, grey" in result.output and "each image is a group of its own" in result.output


@pytest.mark.parametrize("column", ["file=part", "=part", "a=", "index=part", "class=labels"])
def test_a_column_that_cannot_be(file: Path, tmp_path: Path, column: str) -> None:
    result = call(file, tmp_path / "set", "--images", "x", "--range", "0,4095", "--column", column)
    assert isinstance(result.exception, BadInput) and "use NAME=KEY" in str(result.exception)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(BadInput, match="range must be two numbers such as 0,4095"):
        parse_range(text)
