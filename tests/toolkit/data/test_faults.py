"""Spoilt pictures: as drawn and counted, the same from the same seed, and nothing else of a data set changes."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.console import run
from device_agent.contract.errors import BadInput, NotFound
from device_agent.frames.picture import read_picture
from toolkit.cli import cli
from toolkit.data.corruptions import KINDS
from toolkit.data.faults import CLEAN, read_faults, spoil
from toolkit.data.images import open_dataset
from toolkit.data.synth import SynthRecipe, synthesize

SMALL = SynthRecipe(images=40, size=32, seed=4, product=1, photos_per_part=2, cameras=3)
# of SMALL, before there were corruptions: digest of its table and README, means of the first three pictures
TABLE = "fc301f4922468079bd1ba0dc865545bda73244b3939f9ac7251f7aaeb487435b"
MEANS = [126.534, 117.115, 116.169]


def lineside(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as text:
        return list(csv.DictReader(text))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "set"
    synthesize(folder, SMALL)
    return folder


def test_words_name_a_kind_a_severity_or_all() -> None:
    faults = read_faults(["motion:3", "jpeg"], 0.5)
    assert [str(fault) for fault in faults.any_of] == ["motion:3", "jpeg"] and faults.share == 0.5
    assert [fault.kind for fault in read_faults(["all:2"]).any_of] == list(KINDS)
    assert {fault.severity for fault in read_faults(["all:2"]).any_of} == {2}


def test_kinds_are_drawn_equally_often_on_the_share_and_severities_from_1_to_5() -> None:
    rng, faults = np.random.default_rng(0), read_faults(["motion:3", "jpeg"], 0.6)
    drawn = [faults.draw(rng) for _ in range(5000)]
    assert drawn.count(CLEAN) / 5000 == pytest.approx(0.4, abs=0.03)
    assert drawn.count(("motion", 3)) / 5000 == pytest.approx(0.3, abs=0.03)
    jpeg = [severity for kind, severity in drawn if kind == "jpeg"]
    assert [round(jpeg.count(severity) / len(jpeg), 1) for severity in range(1, 6)] == [0.2] * 5


@pytest.mark.parametrize(
    ("words", "share", "message"),
    [
        (["rust"], 1.0, "no corruption 'rust'; known are"),
        (["motion:6"], 1.0, "severity must be 1 to 5, got 6"),
        (["motion:"], 1.0, "severity must be 1 to 5, got 'motion:'"),
        (["motion:x"], 1.0, "severity must be 1 to 5, got 'motion:x'"),
        (["all:0"], 1.0, "severity must be 1 to 5, got 0"),
        ([], 1.0, "no corruption was named"),
        (["motion"], 0.0, "share of corrupted images"),
        (["motion"], 1.5, "share of corrupted images"),
        (["motion"], float("nan"), "share of corrupted images"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: list[str], share: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_faults(words, share)


def test_without_corruption_a_drawn_set_is_what_it_always_was(plain: Path) -> None:
    table = (plain / "manifest.csv").read_bytes() + (plain / "README.md").read_bytes()
    assert hashlib.sha256(table).hexdigest() == TABLE
    first = [read_picture(plain / row["file"]).astype(float) for row in rows_of(plain)[:3]]
    assert [float(image.mean()) for image in first] == pytest.approx(MEANS, abs=0.02)


def test_a_drawn_set_with_corruption_has_the_same_parts_and_says_what_was_done(tmp_path: Path, plain: Path) -> None:
    import msgspec

    recipe = msgspec.structs.replace(SMALL, faults=read_faults(["motion:4", "lens-dirt"], 0.5))
    synthesize(tmp_path / "a", recipe)
    synthesize(tmp_path / "b", recipe)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b"), "the same seed gives the same bytes"
    before, after = rows_of(plain), rows_of(tmp_path / "a")
    spoilt = 0
    for old, new in zip(before, after, strict=True):
        assert {name: new[name] for name in old} == old
        same = (plain / old["file"]).read_bytes() == (tmp_path / "a" / new["file"]).read_bytes()
        assert same == (new["corruption"] == "none") == (new["severity"] == "0")
        spoilt += not same
    assert 10 <= spoilt <= 30
    assert {row["severity"] for row in after if row["corruption"] == "motion"} == {"4"}
    assert "--corrupt motion:4 --corrupt lens-dirt" in (tmp_path / "a" / "README.md").read_text()
    synthesize(tmp_path / "a", SMALL, force=True)
    assert bytes_of(tmp_path / "a") == bytes_of(plain), "a set with corruption can be drawn over"


def test_the_dirt_in_a_drawn_set_is_that_of_its_camera(tmp_path: Path) -> None:
    recipe = SynthRecipe(images=24, size=32, photos_per_part=1, faults=read_faults(["vignetting:5"]))
    synthesize(tmp_path / "set", recipe)
    synthesize(tmp_path / "clean", SynthRecipe(images=24, size=32, photos_per_part=1))
    darkest: dict[str, set[bytes]] = {}
    for row in rows_of(tmp_path / "set"):
        new, old = (read_picture(tmp_path / name / row["file"]).astype(float) for name in ("set", "clean"))
        ratio = ((new + 0.5) / (old + 0.5)).mean(axis=2)
        corners = np.array([ratio[:4, :4].mean(), ratio[:4, -4:].mean(), ratio[-4:, :4].mean(), ratio[-4:, -4:].mean()])
        darkest.setdefault(row["camera"], set()).add(np.argsort(corners).tobytes())
    assert set(darkest) == {"0", "1"} and all(len(orders) == 1 for orders in darkest.values())


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Nine pictures of three formats and two cameras, with groups, split and a column of their own."""
    folder, lines = tmp_path / "mine", ["file,class,part,split,camera,shift"]
    rng = np.random.default_rng(0)
    for number in range(9):
        kind, suffix = ("ok", "pit", "dent")[number % 3], (".png", ".jpg", ".bmp")[number // 3]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        image = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (48, 32))
        cv2.imwrite(str(folder / kind / f"{number}{suffix}"), image)
        lines.append(f"{kind}/{number}{suffix},{kind},p{number // 2},train,c{number % 2},late")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "labels.json").write_text('{"dent": "good"}')
    return folder


def test_a_copy_keeps_columns_groups_split_and_roles(tmp_path: Path, photographs: Path) -> None:
    before = bytes_of(photographs)
    result = spoil(photographs, tmp_path / "out", read_faults(["gaussian-noise:3"]), seed=1)
    assert bytes_of(photographs) == before
    assert result.images == 9 and result.spoilt == {"gaussian-noise": 9} and result.lens == "camera"
    for old, new in zip(rows_of(photographs), rows_of(tmp_path / "out"), strict=True):
        assert new["file"] == (old["file"] if old["file"].endswith(".png") else old["file"] + ".png")
        assert {name: new[name] for name in list(old)[1:]} == {name: old[name] for name in list(old)[1:]}
        assert (new["corruption"], new["severity"]) == ("gaussian-noise", "3")
        first, second = read_picture(photographs / old["file"]), read_picture(tmp_path / "out" / new["file"])
        assert first.shape == second.shape and np.abs(first.astype(int) - second).mean() > 10
    old_set, new_set = open_dataset(photographs), open_dataset(tmp_path / "out")
    assert new_set.groups.tolist() == old_set.groups.tolist() and new_set.roles == old_set.roles
    assert new_set.columns["shift"] == ["late"] * 9


def test_what_is_done_to_a_picture_depends_on_its_name_and_the_seed_alone(tmp_path: Path, photographs: Path) -> None:
    faults = read_faults(["all"], 0.7)
    spoil(photographs, tmp_path / "a", faults, seed=1)
    lines = (photographs / "manifest.csv").read_text().splitlines()
    (photographs / "manifest.csv").write_text("\n".join([lines[0], *reversed(lines[4:])]) + "\n")
    spoil(photographs, tmp_path / "b", faults, seed=1)
    spoil(photographs, tmp_path / "c", faults, seed=2)
    whole, part, other = (bytes_of(tmp_path / name) for name in "abc")
    pictures = [name for name in part if name.endswith(".png")]
    assert len(pictures) == 6 and all(part[name] == whole[name] for name in pictures)
    assert any(part[name] != other[name] for name in pictures)


def test_a_picture_that_is_not_spoilt_keeps_its_pixels(tmp_path: Path, photographs: Path) -> None:
    result = spoil(photographs, tmp_path / "out", read_faults(["motion:5"], 0.5), seed=3)
    assert 0 < result.spoilt["none"] < 9
    for old, new in zip(rows_of(photographs), rows_of(tmp_path / "out"), strict=True):
        same = np.array_equal(read_picture(photographs / old["file"]), read_picture(tmp_path / "out" / new["file"]))
        assert same == (new["corruption"] == "none")


def test_the_split_of_a_named_manifest_is_its_own(tmp_path: Path, photographs: Path) -> None:
    text = (photographs / "manifest.csv").read_text()
    rows = [row["file"] for row in rows_of(photographs)]
    (photographs / "manifest.csv").rename(photographs / "night.csv")
    (photographs / "night.csv").write_text(text.replace(",split,", ",side,"))
    for name, side in (("split.csv", "train"), ("night.split.csv", "test")):
        lines = ["# lineside split {}", "file,split", *[f"{file},{side}" for file in rows]]
        (photographs / name).write_text("\n".join(lines) + "\n")
    spoil(photographs / "night.csv", tmp_path / "out", read_faults(["jpeg"]))
    assert {row["split"] for row in rows_of(tmp_path / "out")} == {"test"}


def test_a_split_that_was_written_down_goes_with_the_pictures(tmp_path: Path, photographs: Path) -> None:
    text = (photographs / "manifest.csv").read_text()
    sides = [("train", "val", "test")[number % 3] for number in range(9)]
    rows = [f"{row['file']},{side}" for row, side in zip(rows_of(photographs), sides, strict=True)]
    (photographs / "manifest.csv").write_text(text.replace(",train,", ",,").replace(",split,", ",side,"))
    (photographs / "split.csv").write_text("\n".join(["# lineside split {}", "file,split", *reversed(rows)]) + "\n")
    spoil(photographs, tmp_path / "out", read_faults(["contrast:1"]))
    assert [row["split"] for row in rows_of(tmp_path / "out")] == sides
    (photographs / "split.csv").write_text("\n".join(["# lineside split {}", "file,split", *rows[1:]]) + "\n")
    with pytest.raises(BadInput, match=r"1 of 9 pictures are not in the split, first ok/0\.png"):
        spoil(photographs, tmp_path / "other", read_faults(["contrast:1"]))


def test_folders_without_a_manifest_are_copied_with_one(tmp_path: Path, photographs: Path) -> None:
    (photographs / "manifest.csv").unlink()
    spoil(photographs, tmp_path / "out", read_faults(["contrast:1"]))
    rows = rows_of(tmp_path / "out")
    assert list(rows[0]) == ["file", "class", "corruption", "severity"] and {row["class"] for row in rows} == {
        "ok",
        "pit",
        "dent",
    }


def test_nothing_is_left_when_a_picture_is_damaged(tmp_path: Path, photographs: Path) -> None:
    victim = photographs / "dent" / "8.bmp"
    victim.write_bytes(victim.read_bytes()[:20])
    with pytest.raises(BadInput, match=r"8\.bmp"):
        spoil(photographs, tmp_path / "out", read_faults(["contrast:1"]))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_copied_is_refused(tmp_path: Path, photographs: Path) -> None:
    faults = read_faults(["contrast:1"])
    with pytest.raises(NotFound, match="no such folder"):
        spoil(tmp_path / "gone", tmp_path / "out", faults)
    with pytest.raises(BadInput, match="no column 'lens'; it has class"):
        spoil(photographs, tmp_path / "out", faults, lens="lens")
    for inside in (photographs, photographs / "deep", tmp_path):
        with pytest.raises(BadInput, match=r"outside of|not empty"):
            spoil(photographs, inside, faults)
    with pytest.raises(BadInput, match="seed must be 0"):
        spoil(photographs, tmp_path / "out", faults, seed=-1)
    spoil(photographs, tmp_path / "out", faults)
    with pytest.raises(BadInput, match="is not empty"):
        spoil(photographs, tmp_path / "out", faults)
    with pytest.raises(BadInput, match="has a column 'corruption' already"):
        spoil(tmp_path / "out", tmp_path / "again", faults)
    (photographs / "ok" / "3.jpg.png").write_bytes((photographs / "ok" / "0.png").read_bytes())
    (photographs / "manifest.csv").unlink()
    with pytest.raises(BadInput, match=r"two pictures would become ok/3\.jpg\.png"):
        spoil(photographs, tmp_path / "two", faults)


def test_the_commands(tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert lineside("data", "corrupt", str(photographs), str(out), "--kind", "all", "--severity", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 9
    assert {row["severity"] for row in rows_of(out)} == {"2"}
    assert lineside("data", "corrupt", str(photographs), str(tmp_path / "o"), "--kind", "motion:9") == 1
    assert "severity must be 1 to 5" in capsys.readouterr().err
    assert lineside("data", "corrupt", str(photographs), str(tmp_path / "o")) == 2
    assert lineside("data", "corrupt", "--help") == 0
    assert "Example: lineside data corrupt" in capsys.readouterr().out
    options = ("--images", "40", "--size", "32", "--photos-per-part", "1")
    assert lineside("data", "synth", str(tmp_path / "s"), *options, "--corrupt", "all", "--corrupt-share", "1") == 0
    assert "none" not in {row["corruption"] for row in rows_of(tmp_path / "s")}
    assert lineside("data", "synth", str(tmp_path / "t"), *options, "--corrupt", "rust") == 1
    assert "no corruption 'rust'" in capsys.readouterr().err and not (tmp_path / "t").exists()
