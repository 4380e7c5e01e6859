"""From a run and a pool to a list, and from the list with its labels back to the accuracy on the pool."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.console import run
from device_agent.contract.errors import BadInput, NotFound
from device_agent.frames.surface import draw
from toolkit.cli import cli
from toolkit.evaluation.scores import ensure_evaluation
from toolkit.labelling import Wishes, choose, copy_chosen
from toolkit.runs import Run

LEVELS = {"bright": 200, "dark": 55, "good": 128}


def lineside(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """60 pictures of 30 parts without a class, in an order that tells nothing; most are good."""
    folder, rng = tmp_path / "pool", np.random.default_rng(1)
    (folder / "cam").mkdir(parents=True)
    lines = ["file,part"]
    for number in range(60):
        name = ("good", "good", "good", "dark", "good", "bright")[number // 2 % 6]
        level = np.clip(rng.normal(LEVELS[name], 25), 0, 255)
        image = np.clip(rng.normal(level, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "cam" / f"{number:03}.png"), image)
        lines.append(f"cam/{number:03}.png,part-{number // 2}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def true_class(file: str) -> str:
    return ("good", "good", "good", "dark", "good", "bright")[int(Path(file).stem) // 2 % 6]


def test_a_pool_is_asked_through_the_artifact_with_its_temperature(tiny_run: Run, pool: Path) -> None:
    chosen = choose(tiny_run, pool, Wishes(24, "mix"), artifact="onnx-int8")
    selection = chosen.selection
    assert chosen.answers_by == "onnx-int8" and chosen.grouped_by == "part" and chosen.passed_over == 0
    assert selection.images == 60 and selection.groups == 30
    assert selection.temperature == ensure_evaluation(tiny_run, "onnx-int8").temperature != 1
    assert len(selection.picks) == 24 and len({pick.group for pick in selection.picks}) == 24
    sure = [pick for pick in selection.picks if pick.confidence > 0.95]
    assert sure and all(pick.predicted == true_class(pick.file) for pick in sure)
    doubtful = [pick.confidence for pick in selection.picks if pick.reason == "entropy"]
    assert max(doubtful) < 0.8


def test_pictures_that_have_a_class_are_passed_over(tiny_run: Run, pool: Path) -> None:
    lines = (pool / "manifest.csv").read_text().splitlines()
    text = [f"{line},{'dark' if number % 4 else ''}" for number, line in enumerate(lines[1:])]
    (pool / "manifest.csv").write_text("\n".join([lines[0] + ",class", *text]) + "\n")
    chosen = choose(tiny_run, pool, Wishes(200, "uncertainty"))
    assert chosen.passed_over == 45 and chosen.selection.images == 15
    assert {int(Path(pick.file).stem) % 4 for pick in chosen.selection.picks} == {0}


def test_pictures_that_the_run_was_trained_on_are_left_out(tiny_run: Run, pool: Path) -> None:
    trained = [tiny_run.dataset().files[row] for row in tiny_run.rows("train")[:7]]
    lines = (pool / "manifest.csv").read_text()
    for number, file in enumerate(trained):
        shutil.copyfile(tiny_run.dataset().dir / file, pool / f"copy-{number}.png")
        lines += f"copy-{number}.png,other-{number}\n"
    (pool / "manifest.csv").write_text(lines)
    chosen = choose(tiny_run, pool, Wishes(200, "uncertainty", per_group=2))
    assert chosen.trained_on == 7 and chosen.selection.images == 60
    assert not any(pick.file.startswith("copy") for pick in chosen.selection.picks)
    with pytest.raises(BadInput, match="trained on all"):
        folder = pool.parent / "only"
        folder.mkdir()
        shutil.copyfile(pool / "copy-0.png", folder / "a.png")
        choose(tiny_run, folder, Wishes(1, "uncertainty"))


def test_a_burst_of_one_part_is_one_group_where_nothing_tells_parts_apart(tiny_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "burst"
    folder.mkdir()
    for part in range(6):
        image = draw(np.random.default_rng(part), "good", size=96)
        for shot in range(3):
            noise = np.random.default_rng([part, shot]).normal(0, 2, image.shape)
            cv2.imwrite(str(folder / f"{part}-{shot}.png"), np.clip(image + noise, 0, 255).astype(np.uint8))
    (folder / "9-9.png").write_bytes((folder / "0-0.png").read_bytes())
    chosen = choose(tiny_run, folder, Wishes(19, "uncertainty"))
    assert chosen.grouped_by == "near copies" and chosen.selection.groups == 6
    assert sorted(pick.file[0] for pick in chosen.selection.picks if pick.file != "9-9.png") in (
        list("012345"),
        list("12345"),
    )
    each = choose(tiny_run, folder, Wishes(19, "uncertainty", group="file"))
    assert each.grouped_by == "file" and len(each.selection.picks) == 19


def logits_table(pool: Path, files: list[str]) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{file},{','.join(f'{value:.3f}' for value in rng.normal(0, 2, 3))}" for file in files]
    path = pool.parent / "logits.csv"
    path.write_text("\n".join(["file,dark,good,bright", *rows]) + "\n")
    return path


def test_logits_from_a_file_are_taken_by_name_whatever_their_order(tiny_run: Run, pool: Path) -> None:
    files = [f"cam/{number:03}.png" for number in range(60)]
    path = logits_table(pool, files[::-1])
    with path.open(newline="") as text:
        said = {row["file"]: max(LEVELS, key=lambda name: float(row[name])) for row in csv.DictReader(text)}
    chosen = choose(tiny_run, pool, Wishes(30, "margin"), logits=path)
    assert chosen.selection.temperature == 1 and chosen.answers_by == str(path)
    assert all(pick.predicted == said[pick.file] for pick in chosen.selection.picks)
    calibrated = choose(tiny_run, pool, Wishes(30, "margin"), logits=path, artifact="onnx-fp32")
    assert calibrated.selection.temperature == ensure_evaluation(tiny_run, "onnx-fp32").temperature


def test_a_table_of_logits_that_does_not_fit_is_refused(tiny_run: Run, pool: Path) -> None:
    files = [f"cam/{number:03}.png" for number in range(60)]
    path = logits_table(pool, files[1:])
    with pytest.raises(BadInput, match=r"1 of 60 pictures of the pool are not in it, first cam/000\.png"):
        choose(tiny_run, pool, Wishes(5, "margin"), logits=path)
    text = logits_table(pool, files).read_text()
    first = text[text.index("\ncam/000.png,") : text.index(",", text.index("\ncam/000.png,") + 13) + 1]
    for old, new, message in (
        ("good", "fine", "no column 'good'"),
        ("cam/001", "cam/000", "a file is listed twice"),
        ("\ncam/000.png,", "\ncam/000.png,x", "a logit is no number"),
        (first, "\ncam/000.png,inf,", "are not finite"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(BadInput, match=message):
            choose(tiny_run, pool, Wishes(5, "margin"), logits=path)


def test_what_is_not_there_is_said(tiny_run: Run, pool: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        choose(tiny_run, tmp_path / "gone", Wishes(5))
    with pytest.raises(NotFound, match="litert-int8 is not there"):
        choose(tiny_run, pool, Wishes(5, "margin"), artifact="litert-int8")
    with pytest.raises(BadInput, match="no column 'coil'; it has part"):
        choose(tiny_run, pool, Wishes(5, group="coil"))
    (pool / "cam" / "007.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"007\.png"):
        choose(tiny_run, pool, Wishes(5, "margin"))


def test_copies_come_with_the_list_to_fill_in(tiny_run: Run, pool: Path, tmp_path: Path) -> None:
    chosen = choose(tiny_run, pool, Wishes(12, "uncertainty", per_group=2))
    copy_chosen(pool, chosen.selection, tmp_path / "next")
    files = [pick.file for pick in chosen.selection.picks]
    with (tmp_path / "next" / "manifest.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["file"] for row in rows] == files and {row["class"] for row in rows} == {""}
    assert all((tmp_path / "next" / file).read_bytes() == (pool / file).read_bytes() for file in files)
    with pytest.raises(BadInput, match="is not empty"):
        copy_chosen(pool, chosen.selection, tmp_path / "next")


def test_the_commands_go_from_the_pool_to_its_accuracy(
    tiny_run: Run, pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("data", "select", str(tiny_run.dir), str(pool), "--budget", "48", "--per-group", "2", "--seed", "1")
    assert lineside(*arguments) == 0
    shown = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert len(rows) == 48 and "48 of 60 pictures (30 groups by part, at most 2 of each)" in shown.err
    listed, copies = tmp_path / "next.csv", tmp_path / "next"
    assert lineside(*arguments, "--out", str(listed), "--copy-to", str(copies), "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["picks"]) == 48
    assert listed.read_bytes() == (copies / "manifest.csv").read_bytes()
    assert lineside("data", "estimate", str(listed)) == 1
    assert "24 of 24 pictures that were drawn by chance have no class" in capsys.readouterr().err
    filled = ["file,class" + listed.read_text().split("\n")[0].removeprefix("file,class")]
    filled += [f"{row['file']},{true_class(row['file'])}," + ",".join(list(row.values())[2:]) for row in rows]
    listed.write_text("\n".join(filled) + "\n")
    assert lineside("data", "estimate", str(listed), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 24 and found["not_drawn"] == 24 and found["pool"] == 60
    everyone = choose(tiny_run, pool, Wishes(60, "neyman", per_group=2)).selection.picks
    truth = np.mean([pick.predicted == true_class(pick.file) for pick in everyone])
    assert len(everyone) == 60 and found["interval"][0] <= truth <= found["interval"][1]
    assert lineside("data", "estimate", str(listed)) == 0
    assert "on the pool of 60 pictures" in capsys.readouterr().out


def test_a_list_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.csv"
    for text, message in (
        ("file,class\na,b\n", "no column 'predicted'"),
        ("file,class,predicted,cell,weight,within_group\na,b,b,,,\n", "was drawn by chance"),
        ("file,class,predicted,cell,weight,within_group\na,b,b,c,x,1\n", "must be numbers"),
        ("file,class,predicted,cell,weight,within_group\na,b,b,c,0.5,1\n", "weights must be 1 or more"),
    ):
        path.write_text(text)
        assert lineside("data", "estimate", str(path)) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["select", "estimate"])
def test_help_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lineside("data", command, "--help") == 0
    assert f"Example: lineside data {command}" in capsys.readouterr().out
