"""`lineside data check` on data sets that are drawn with a fault in them, and without."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.commands.data.check import check
from toolkit.data import suspects
from toolkit.data.check_page import render, write_page
from toolkit.data.images import open_dataset
from toolkit.data.looks import OF_THE_PICTURE, Looks, look
from toolkit.data.poisoning import components, find_marks, find_outliers, find_shifts
from toolkit.data.split_file import write_split_file
from toolkit.data.survey import Survey, survey

SIDE, PARTS, SHOTS = 48, 24, 2


def _picture(rng: np.random.Generator, name: str) -> NDArray[np.uint8]:
    """Grain of some strength, with a bright disc on a "pit", a dark line on a "crack"."""
    image = rng.normal(128, rng.uniform(9, 16), (SIDE, SIDE)).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), 0.8) * 1.0 + rng.normal(0, 6)
    x, y = rng.integers(12, SIDE - 12, 2).tolist()
    if name == "pit":
        cv2.circle(image, (x, y), 6, 225.0, -1)
    if name == "crack":
        cv2.line(image, (x, 2), (y, SIDE - 3), 30.0, 2)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _draw(folder: Path, *, seed: int = 0) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("crack", "good", "pit"):
        (folder / name).mkdir(parents=True)
        for part in range(PARTS):
            for shot in range(SHOTS):
                file = f"{name}/{part}-{shot}.png"
                cv2.imwrite(str(folder / file), _picture(rng, name))
                rows.append({"file": file, "class": name, "group": f"{name}-{part}", "site": f"s{part % 3}"})
    _write(folder, rows)
    return rows


def _write(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def _kinds(result: Survey, severity: str | None = None) -> list[str]:
    return [each.kind for each in result.findings if severity in (None, each.severity)]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Survey]:
    folder = tmp_path_factory.mktemp("clean") / "parts"
    _draw(folder)
    return folder, survey(folder)


def test_clean_data_raises_no_finding(clean: tuple[Path, Survey]) -> None:
    _, result = clean
    assert result.findings == []
    assert result.problems == []
    assert result.doubt.agreement > 0.9
    assert not any(each.leaks for each in result.shortcuts)


def test_the_survey_counts_images_groups_and_splits(clean: tuple[Path, Survey]) -> None:
    folder, result = clean
    assert (result.images, result.groups, result.imbalance) == (144, 72, 1.0)
    assert result.images_per_group == [2, 2, 2]
    assert result.sha256 == open_dataset(folder).sha256()
    row = result.classes[0]
    assert (row.images, row.groups, sum(row.splits.values()), sum(row.split_groups.values())) == (48, 24, 48, 24)


def test_the_rarest_class_says_what_recall_its_test_parts_allow(clean: tuple[Path, Survey]) -> None:
    rarest = clean[1].rarest
    assert rarest is not None
    parts = rarest.split_groups["test"]
    assert rarest.recall_from == pytest.approx(0.025 ** (1 / parts), abs=1e-3)


def test_flipped_labels_are_at_the_head_of_the_list_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "_TREES", 30)
    rows = _draw(tmp_path / "parts")
    flipped = [f"{name}/{part}-0.png" for name in ("crack", "good", "pit") for part in (3, 9, 15)]
    for row in rows:
        if row["file"] in flipped:
            row["class"] = {"crack": "good", "good": "pit", "pit": "crack"}[row["class"]]
    _write(tmp_path / "parts", rows)
    doubt = survey(tmp_path / "parts").doubt
    assert len(doubt.suspects) == 22
    assert [each.rank for each in doubt.suspects] == list(range(1, 23))
    assert {each.file for each in doubt.suspects[:9]} == set(flipped)
    assert sum(each.confident for each in doubt.suspects[:9]) >= 6
    first = {each.file: each.likely for each in doubt.suspects}
    assert first["crack/3-0.png"] == "crack"


def test_copies_are_told_apart_by_where_they_stand(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    folder = tmp_path / "parts"
    picture = cv2.imread(str(folder / "pit/5-0.png"))
    small = cv2.resize(picture, (40, 40), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / "near.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    cv2.imwrite(str(folder / "exact.bmp"), cv2.imread(str(folder / "good/7-0.png")))
    cv2.imwrite(str(folder / "wrong.png"), cv2.imread(str(folder / "crack/7-0.png")))
    rows += [
        {"file": "near.jpg", "class": "pit", "group": "other", "site": "s0"},
        {"file": "exact.bmp", "class": "good", "group": "another", "site": "s0"},
        {"file": "wrong.png", "class": "good", "group": "third", "site": "s0"},
    ]
    _write(folder, rows)
    result = survey(folder, depth="quick")
    found = {(each.kind, each.severity): each for each in result.findings if "duplicate" in each.kind}
    assert set(found) == {("near duplicate", "warning"), ("exact duplicate", "note"), ("duplicate", "problem")}
    assert set(found["near duplicate", "warning"].files) == {"pit/5-0.png", "near.jpg"}
    assert set(found["exact duplicate", "note"].files) >= {"good/7-0.png", "exact.bmp"}
    assert "crack/7-0.png and wrong.png have equal pixels and two classes" in result.problems[0]


@pytest.mark.parametrize("stated", ["manifest", "split file"])
def test_a_near_copy_on_the_other_side_of_the_split_is_a_warning(tmp_path: Path, stated: str) -> None:
    rows = _draw(tmp_path / "parts")
    folder = tmp_path / "parts"
    for row in rows:
        row["split"] = ("train", "val", "test")[int(row["group"].split("-")[1]) % 3]
    cv2.imwrite(str(folder / "near.jpg"), cv2.imread(str(folder / "pit/6-0.png")), [cv2.IMWRITE_JPEG_QUALITY, 85])
    rows.append({"file": "near.jpg", "class": "pit", "group": "other", "site": "s0", "split": "test"})
    _write(folder, rows)
    if stated == "split file":
        write_split_file(open_dataset(folder), folder / "split.csv")
        _write(folder, [{name: text for name, text in row.items() if name != "split"} for row in rows])
    (found,) = [each for each in survey(folder, depth="quick").of("warning") if each.kind == "near duplicate"]
    assert "in two splits" in found.sentence


@pytest.mark.parametrize("fact", ["file format", "border", "brightness", "column site"])
def test_a_fact_that_goes_with_one_class_is_a_shortcut(tmp_path: Path, fact: str) -> None:
    rows = _draw(tmp_path / "parts")
    for row in rows:
        path = tmp_path / "parts" / row["file"]
        if row["class"] != "pit":
            continue
        picture = cv2.imread(str(path))
        if fact == "column site":
            row["site"] = "s9"
        elif fact == "file format":
            path.unlink()
            row["file"] = row["file"].replace(".png", ".bmp")
            cv2.imwrite(str(path.with_suffix(".bmp")), picture)
        elif fact == "border":
            picture[:5] = picture[-5:] = 0
            cv2.imwrite(str(path), picture)
        else:
            cv2.imwrite(str(path), (picture * 0.6).astype(np.uint8))
    _write(tmp_path / "parts", rows)
    leaks = [each for each in survey(tmp_path / "parts", depth="quick").shortcuts if each.leaks]
    assert fact in [each.fact for each in leaks]
    assert next(each for each in leaks if each.fact == fact).target == "pit"


def test_a_spot_on_one_class_only_is_a_mark(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    spoilt = [row["file"] for row in rows if row["class"] == "good"][:12]
    for file in spoilt:
        picture = cv2.imread(str(tmp_path / "parts" / file))
        picture[41:45, 41:45] = 255
        cv2.imwrite(str(tmp_path / "parts" / file), picture)
    dataset = open_dataset(tmp_path / "parts")
    looks, _, _ = look(dataset, features=False)
    (found,) = find_marks(looks.thumbs, dataset.labels, dataset.names)
    assert {dataset.files[row] for row in found.rows} == set(spoilt)
    assert (found.given, found.images, found.outside) == ("good", 12, 0.0)
    assert abs(found.x - 43 / SIDE) < 0.05 and abs(found.y - 43 / SIDE) < 0.05


def test_a_picture_of_something_else_is_an_outlier(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    stripes = np.zeros((SIDE, SIDE, 3), np.uint8)
    stripes[:, ::4] = (255, 80, 0)
    cv2.imwrite(str(tmp_path / "parts/good/0-0.png"), stripes)
    _write(tmp_path / "parts", rows)
    dataset = open_dataset(tmp_path / "parts")
    dataset = dataset.only(np.flatnonzero(dataset.labels == dataset.names.index("good")).tolist())
    looks, _, _ = look(dataset, features=True)
    assert looks.features is not None
    found = find_outliers(components(looks.features), dataset.labels, dataset.groups, dataset.names, dataset.files)
    assert [each.file for each in found] == ["good/0-0.png"]


def test_a_site_with_other_labels_or_pictures_is_named(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    for row in rows:
        if row["site"] == "s1" and row["class"] == "crack" and row["group"] != "crack-1":
            row["class"] = "good"
        if row["site"] == "s2":
            path = tmp_path / "parts" / row["file"]
            cv2.imwrite(str(path), cv2.imread(str(path)) // 2)
    _write(tmp_path / "parts", rows)
    found = _shifts(tmp_path / "parts", doubted=[row["file"] for row in rows if row["site"] == "s1"][::2])
    assert ("s1", "labels") in found and ("s2", "pictures") in found
    assert ("s0", "labels") not in found and ("s2", "labels") not in found


def test_a_site_with_other_classes_is_named(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    for row in rows:
        name, part = row["group"].split("-")
        row["site"] = "s9" if name == "pit" and int(part) < 14 else f"s{int(part) % 2}"
    _write(tmp_path / "parts", rows)
    assert ("s9", "classes") in _shifts(tmp_path / "parts", doubted=[])


def test_a_few_parts_of_one_class_at_one_site_are_chance() -> None:
    site, rng = np.repeat(np.arange(40), 6), np.random.default_rng(0)
    labels = rng.integers(0, 2, len(site))
    labels[site == 7] = 1  # as one of 32 such sites is by chance
    facts = {name: rng.normal(size=len(site)) for name in OF_THE_PICTURE}
    looks = Looks([b""] * len(site), np.zeros(len(site), np.uint64), np.zeros((len(site), 1, 1), np.uint8), facts, None)
    columns, groups = {"site": [f"s{number}" for number in site]}, np.arange(len(site)).astype(str)
    points = rng.normal(size=(len(site), 8)).astype(np.float32)
    assert find_shifts(looks, points, columns, labels, groups, ["a", "b"], np.zeros(len(site))) == []


def test_sites_that_differ_by_chance_only_are_not_named(clean: tuple[Path, Survey]) -> None:
    assert _shifts(clean[0], doubted=["good/0-0.png", "pit/1-1.png", "pit/2-0.png"]) == set()


def test_a_time_from_which_on_the_light_is_other_is_named(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    for number, row in enumerate(rows):
        row["time"] = f"2026-03-{1 + number * 5 % 28:02d}T12:{number % 60:02d}:00"
        if row["time"] > "2026-03-25":
            path = tmp_path / "parts" / row["file"]
            cv2.imwrite(str(path), cv2.imread(str(path)) // 2)
    _write(tmp_path / "parts", rows)
    named = [value for value, kind in _shifts(tmp_path / "parts", doubted=[]) if kind == "pictures"]
    assert named and all("2026-03-2" in value for value in named)


def _shifts(folder: Path, *, doubted: list[str]) -> set[tuple[str, str]]:
    """Value and kind of each shift that is found when the labels of some files are doubted."""
    dataset = open_dataset(folder)
    looks, _, _ = look(dataset, features=False)
    doubts = np.array([float(file in doubted) for file in dataset.files])
    points = np.random.default_rng(0).normal(size=(len(dataset), 8)).astype(np.float32)
    found = find_shifts(looks, points, dataset.columns, dataset.labels, dataset.groups, dataset.names, doubts)
    return {(each.value, each.kind) for each in found}


def test_an_unreadable_image_is_a_problem_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    _draw(tmp_path / "parts")
    (tmp_path / "parts/good/3-0.png").write_bytes(b"no picture")
    result = survey(tmp_path / "parts", depth="quick")
    assert "good/3-0.png" in result.problems[0]
    assert (result.sha256, result.images) == ("", 144)
    assert result.shortcuts


def test_a_data_set_without_a_readable_image_is_told_in_problems(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"")
    result = survey(tmp_path)
    assert len(result.problems) == 3
    assert not result.doubt.suspects


def test_the_page_escapes_names_and_loads_nothing(tmp_path: Path) -> None:
    rows = _draw(tmp_path / "parts")
    name = "good/<script>alert(1)<b>&.png"
    (tmp_path / "parts/good/<script>alert(1)<b>&.png").write_bytes((tmp_path / "parts/pit/2-0.png").read_bytes())
    rows.append({"file": name, "class": "good", "group": "<img src=x onerror=1>", "site": '"><script>'})
    _write(tmp_path / "parts", rows)
    result = survey(tmp_path / "parts", depth="quick")
    assert name in result.problems[0]
    page = render(result)
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;b&gt;&amp;.png" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image/jpeg;base64," in page


def test_the_page_is_written_whole(clean: tuple[Path, Survey], tmp_path: Path) -> None:
    write_page(clean[1], tmp_path / "new/page.html")
    text = (tmp_path / "new/page.html").read_text()
    assert "nothing to mend" in text and text.rstrip().endswith("</html>")


def test_the_command_fails_on_problems_and_with_strict_on_warnings(clean: tuple[Path, Survey], tmp_path: Path) -> None:
    folder, _ = clean
    done = CliRunner().invoke(check, [str(folder), "--quick", "--strict", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["images"] == 144
    rows = _draw(tmp_path / "parts")
    for row in rows:
        row["site"] = row["class"]
    _write(tmp_path / "parts", rows)
    assert CliRunner().invoke(check, [str(tmp_path / "parts"), "--quick"]).exit_code == 0
    strict = CliRunner().invoke(check, [str(tmp_path / "parts"), "--quick", "--strict"])
    assert isinstance(strict.exception, BadInput)
    (tmp_path / "parts/good/3-0.png").write_bytes(b"")
    broken = CliRunner().invoke(check, [str(tmp_path / "parts"), "--quick"])
    assert isinstance(broken.exception, BadInput)
    assert "problem: " in broken.stdout


def test_the_same_seed_gives_the_same_survey(clean: tuple[Path, Survey]) -> None:
    folder, _ = clean
    assert survey(folder, depth="quick") == survey(folder, depth="quick")


def test_twelve_bits_in_sixteen_are_almost_black_and_said(tmp_path: Path) -> None:
    rows = _draw(tmp_path)
    for row in rows[:7]:
        path = str(tmp_path / row["file"])
        picture = cv2.imread(path)
        assert picture is not None
        cv2.imwrite(path, picture.astype(np.uint16) * 16)
    found = [each for each in survey(tmp_path, depth="quick").findings if "almost black" in each.sentence]
    assert [(each.severity, each.count) for each in found] == [("warning", 7)]
    assert found[0].sentence.startswith(f"7 pictures of {len(rows)}, first crack/0-0.png, almost black")
