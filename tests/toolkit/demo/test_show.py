"""A demo replaces what a demo made, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput
from toolkit.commands.demo import demo
from toolkit.demo.build import Plan, Stages, build


@pytest.mark.parametrize("place", ["live/images", "run", "."])
def test_images_in_the_way_of_the_demo_are_refused_and_kept(tmp_path: Path, place: str) -> None:
    mine = tmp_path / place / "good" / "0.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    options = ["--fresh", "--once", "--out", str(tmp_path), "--data", str(tmp_path / place)]
    with pytest.raises(BadInput, match="overlaps with what the demo writes"):
        demo.main(options, standalone_mode=False)
    assert mine.read_bytes() == b"mine"


def test_a_folder_called_live_that_no_demo_made_is_kept(tmp_path: Path) -> None:
    (tmp_path / "live" / "concert").mkdir(parents=True)
    with pytest.raises(BadInput, match="was not made by a demo"):
        demo.main(["--once", "--out", str(tmp_path)], standalone_mode=False)
    assert (tmp_path / "live" / "concert").exists()


def test_fresh_deletes_nothing_before_the_data_are_read(tmp_path: Path) -> None:
    kept = [tmp_path / "out" / name for name in ("photos/0.png", "data/0.png", "run/run.json")]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"mine")
    options = ["--fresh", "--once", "--out", str(tmp_path / "out"), "--data", str(tmp_path / "out" / "photos")]
    with pytest.raises(BadInput):
        demo.main(options, standalone_mode=False)
    assert all(path.read_bytes() == b"mine" for path in kept)


def test_fresh_draws_over_a_drawn_data_set_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.png").write_bytes(b"mine")
    with pytest.raises(BadInput, match="something else than a drawn data set"):
        build(Plan(folder=tmp_path, images=200, fresh=True), Stages(lambda line: None))
    assert (tmp_path / "data" / "mine.png").read_bytes() == b"mine"
