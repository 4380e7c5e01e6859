"""`lineside data purge`: what is listed, and what is gone."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from toolkit.commands.data.purge import purge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    yesterday, tomorrow = (date.today() + timedelta(days=days) for days in (-2, 2))
    (tmp_path / "manifest.csv").write_text(f"file,class,expires\na.png,good,{yesterday}\nb.png,pit,{tomorrow}\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"an image is not opened")
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(purge, [str(argument) for argument in arguments])


def test_a_dry_run_then_the_purge_of_today(folder: Path) -> None:
    result = call(folder, "--dry-run")
    assert result.output.splitlines()[0] == "a.png" and "1 images would be removed, 1 kept" in result.output
    assert (folder / "a.png").exists()
    assert json.loads(call(folder, "--json").output)["removed"] == ["a.png"]
    assert not (folder / "a.png").exists() and (folder / "b.png").exists()
    assert "0 images removed, 1 kept" in call(folder).output


def test_another_day_can_be_given(folder: Path) -> None:
    result = call(folder, "--today", "2999-01-01")
    assert "2 images removed, 0 kept (expires before 2999-01-01)" in result.output
    assert "without any image now: good, pit" in result.output


def test_a_day_that_is_none_is_a_wrong_use(folder: Path) -> None:
    assert call(folder, "--today", "soon").exit_code == 2
    assert call(folder, "--by-days", "-1").exit_code == 2
