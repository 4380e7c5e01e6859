"""The drawn data set: repeatable, as asked for, whole or absent; and the commands that draw and check it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from device_agent.console import run
from device_agent.contract.errors import BadInput
from device_agent.contract.manifest import InputSpec
from toolkit.cli import cli
from toolkit.data.images import load, open_dataset
from toolkit.data.splits import split
from toolkit.data.synth import SynthRecipe, synthesize

SMALL = SynthRecipe(images=90, size=32, photos_per_part=2)


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lineside(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_same_seed_gives_the_same_bytes_and_another_other_pictures(tmp_path: Path) -> None:
    synthesize(tmp_path / "a", SMALL)
    synthesize(tmp_path / "b", SMALL)
    synthesize(tmp_path / "c", SynthRecipe(images=90, size=32, photos_per_part=2, seed=1))
    first = bytes_of(tmp_path / "a")
    assert len(first) == 92 and first == bytes_of(tmp_path / "b")
    assert len(set(first.values())) == 92, "no two pictures are alike"
    assert not set(first.values()) & set(bytes_of(tmp_path / "c").values())


def test_what_is_drawn_is_a_data_set_that_can_be_split(tmp_path: Path) -> None:
    result = synthesize(tmp_path / "set", SMALL)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.names == ["crack", "good", "pit", "scratch", "stain"]
    assert dataset.roles == ["defect", "good", "defect", "defect", "defect"]
    assert dict(zip(dataset.names, dataset.counts().tolist(), strict=True)) == result.images
    assert sum(result.images.values()) == 90 and sum(result.parts.values()) == 45
    assert len(set(dataset.groups.tolist())) == 45
    assert set(dataset.columns) == {"camera", "light", "product"} and set(dataset.columns["camera"]) == {"0", "1"}
    assert len(set(dataset.columns["light"])) > 50
    assert set(split(dataset, 0).tolist()) == {"train", "val", "test"}
    images = load(dataset, InputSpec(height=32, width=32), range(90))
    assert images.mean(axis=(1, 2, 3)).std() > 4


def test_few_defects_are_one_of_each_kind(tmp_path: Path) -> None:
    result = synthesize(tmp_path / "set", SynthRecipe(images=120, defects=0.034, size=32, photos_per_part=1))
    assert result.images == {"good": 116, "scratch": 1, "pit": 1, "stain": 1, "crack": 1}


def test_the_last_part_may_have_fewer_photographs(tmp_path: Path) -> None:
    result = synthesize(tmp_path / "set", SynthRecipe(images=31, size=32, photos_per_part=3))
    assert sum(result.images.values()) == 31 and sum(result.parts.values()) == 11


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (SynthRecipe(images=0), "images must be 2 to"),
        (SynthRecipe(defects=0.0), "between 0 and 1"),
        (SynthRecipe(defects=1.0), "between 0 and 1"),
        (SynthRecipe(size=8), "size must be 32 to"),
        (SynthRecipe(cameras=0), "cameras must be"),
        (SynthRecipe(photos_per_part=0), "photos per part must be"),
        (SynthRecipe(seed=-1), "seed must be"),
        (SynthRecipe(product=9), "product must be 0 to"),
        (SynthRecipe(images=60, defects=0.01), "20 parts, 0 of them defective"),
        (SynthRecipe(images=6, defects=0.99, photos_per_part=1), "6 parts, 6 of them defective"),
    ],
)
def test_a_recipe_that_cannot_be_drawn_is_refused_before_anything_is_written(
    tmp_path: Path, recipe: SynthRecipe, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        synthesize(tmp_path / "deep" / "set", recipe)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    synthesize(out, SMALL)
    before = bytes_of(out)
    with pytest.raises(BadInput, match="not empty"):
        synthesize(out, SMALL)
    assert bytes_of(out) == before
    synthesize(out, SynthRecipe(images=60, size=32), force=True)
    assert len(bytes_of(out)) == 62


def test_force_does_not_delete_what_was_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("three years")
    (tmp_path / "home" / "manifest.csv").write_text("file,class\n")
    with pytest.raises(BadInput, match="holds something else"):
        synthesize(tmp_path / "home", SMALL, force=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "three years"
    with pytest.raises(BadInput, match="is a file"):
        synthesize(tmp_path / "home" / "thesis.txt", SMALL, force=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_nothing_new_and_the_old_untouched(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(done: int, total: int) -> None:
        if done > 20:
            raise error

    with pytest.raises((KeyboardInterrupt, OSError)):
        synthesize(tmp_path / "set", SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []
    synthesize(tmp_path / "set", SMALL)
    before = bytes_of(tmp_path / "set")
    with pytest.raises((KeyboardInterrupt, OSError)):
        synthesize(tmp_path / "set", SynthRecipe(images=60, size=32), force=True, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["set"] and bytes_of(tmp_path / "set") == before


def test_what_a_killed_drawing_left_beside_the_folder_is_cleared(tmp_path: Path) -> None:
    synthesize(tmp_path / "set", SMALL)
    for name in (".set.0123abcd.part", ".set.0123abcd.part.old", ".set.mine.part", ".other.0123abcd.part"):
        (tmp_path / name / "good").mkdir(parents=True)
    with pytest.raises(BadInput, match="not empty"):
        synthesize(tmp_path / "set", SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.0123abcd.part", ".set.mine.part", "set"]


def test_a_set_that_a_killed_drawing_had_moved_aside_is_put_back(tmp_path: Path) -> None:
    synthesize(tmp_path / "set", SMALL)
    before = bytes_of(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / ".set.0123abcd.part.old")
    with pytest.raises(BadInput, match="not empty"):
        synthesize(tmp_path / "set", SMALL)
    assert bytes_of(tmp_path / "set") == before


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: file name too long"):
        synthesize(tmp_path / ("x" * 300), SMALL)


def test_progress_ends_at_the_number_of_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    synthesize(tmp_path / "set", SMALL, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (90, 90) and np.all(np.diff([done for done, _ in calls]) > 0)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    assert (
        lineside("data", "synth", str(out), "--images", "90", "--size", "32", "--photos-per-part", "2", "--json") == 0
    )
    drawn = json.loads(capsys.readouterr().out)
    assert drawn["recipe"]["images"] == 90 and sum(drawn["images"].values()) == 90
    assert lineside("data", "synth", str(out)) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "not empty" in shown.err
    assert lineside("data", "check", str(out), "--quick", "--json") == 0
    survey = json.loads(capsys.readouterr().out)
    assert survey["images"] == 90 and survey["groups"] == 45 and survey["problems"] == []
    assert len(survey["sha256"]) == 64 and survey["split_by"] == "by seed 0"
    victim = next((out / "pit").iterdir())
    victim.write_bytes(victim.read_bytes()[:100])
    assert lineside("data", "check", str(out), "--quick") == 1
    shown = capsys.readouterr()
    assert victim.name in shown.out and "1 problem found" in shown.err and "45 groups" in shown.out
    for seed in ("-1", "99999999999"):
        assert lineside("data", "check", str(out), "--seed", seed) == 2
        assert "is not in the range" in capsys.readouterr().err
    assert lineside("data", "check", str(tmp_path / "gone")) == 1
    assert "no such folder" in capsys.readouterr().err


def test_files_that_are_passed_over_are_counted_by_place_and_suffix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    synthesize(out, SMALL)
    assert lineside("data", "check", str(out), "--quick") == 0 and "passed over" not in capsys.readouterr().out
    (out / "good" / "deep").mkdir()
    for name in ("good/a.gif", "good/deep/b.gif", "good/late.png", "loose.png", "pit/Thumbs", ".hidden.gif"):
        (out / name).write_bytes(b"")
    assert lineside("data", "check", str(out), "--quick") == 0
    assert "5 files passed over: 1 *.png, 2 good/*.gif, 1 good/*.png, 1 pit/*" in capsys.readouterr().out
    assert lineside("data", "check", str(out), "--quick", "--json") == 0
    found = json.loads(capsys.readouterr().out)["passed_over"]
    assert found == {"*.png": 1, "good/*.gif": 2, "good/*.png": 1, "pit/*": 1}


def test_equal_pixels_of_two_classes_are_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    synthesize(out, SMALL)
    (out / "manifest.csv").unlink()
    first = min((out / "good").iterdir())
    (out / "pit" / "zz.png").write_bytes(first.read_bytes())
    (out / "good" / "zz.png").write_bytes(first.read_bytes())
    assert lineside("data", "check", str(out), "--quick") == 1
    shown = capsys.readouterr()
    assert "1 problem found" in shown.err
    assert f"good/{first.name} and pit/zz.png have equal pixels and two classes: 'good' and 'pit'" in shown.out


@pytest.mark.parametrize("command", [[], ["synth"], ["check"]])
def test_help_ends_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert lineside("data", *command, "--help") == 0
    assert "Example: lineside data" in capsys.readouterr().out
