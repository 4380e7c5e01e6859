"""Labels of several annotators: what becomes one class, what is a tie, and what is said about each person."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, MissingPackage, NotFound
from toolkit.data import merging
from toolkit.data.annotations import annotations_of, disagreement, fleiss_kappa, krippendorff_alpha, read_annotations
from toolkit.data.images import open_dataset
from toolkit.data.merging import dawid_skene, merge_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for place in range(8):
        image = np.random.default_rng(place).integers(0, 256, (8, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "set" / f"{place}.png"), image)
    return tmp_path / "set"


def table(path: Path, labels: dict[str, str], header: str = "file,annotator,label") -> Path:
    """`labels`: annotator to one letter an image: good, pit, dent, or - for none."""
    names = {"g": "good", "p": "pit", "d": "dent"}
    rows = [
        f"{place}.png,{who},{names[letter]}"
        for who, letters in labels.items()
        for place, letter in enumerate(letters)
        if letter != "-"
    ]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as text:
        return list(csv.DictReader(text))


THREE = {"anna": "ggppdd-g", "ben": "ggppdg-p", "cleo": "gpp-dpg-"}


def test_a_majority_with_its_confidence_and_disagreement(folder: Path) -> None:
    source = table(folder / "l.csv", THREE)
    result = merge_labels([source], folder / "manifest.csv")
    found = {row.pop("file"): list(row.values()) for row in rows(folder / "manifest.csv")}
    assert found == {
        "0.png": ["good", "1.0000", "3", "0.0000"],
        "1.png": ["good", "0.6667", "3", "0.6667"],
        "2.png": ["pit", "1.0000", "3", "0.0000"],
        "3.png": ["pit", "1.0000", "2", "0.0000"],
        "4.png": ["dent", "1.0000", "3", "0.0000"],
        "6.png": ["good", "1.0000", "1", ""],
    }
    assert [(tie.file, tie.votes) for tie in result.ties] == [
        ("5.png", {"dent": 1, "good": 1, "pit": 1}),
        ("7.png", {"good": 1, "pit": 1}),
    ]
    assert (result.images, result.decided, result.alone, result.classes) == (8, 6, 1, {"dent": 1, "good": 3, "pit": 2})
    data = open_dataset(folder)
    assert data.columns["annotators"] == ["3", "3", "3", "2", "3", "1"]


def test_each_annotator_against_the_merged_class_and_the_others(folder: Path) -> None:
    result = merge_labels([table(folder / "l.csv", THREE)], folder / "manifest.csv")
    anna, _, cleo = result.annotators
    assert result.names == ["dent", "good", "pit"] and (anna.images, cleo.images) == (7, 6)
    assert anna.accuracy == 1 and anna.confusion == [[1, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert cleo.accuracy == pytest.approx(4 / 5) and cleo.confusion == [[1, 0, 0], [0, 2, 1], [0, 0, 1]]
    # cleo with anna and ben on images 0, 1, 2, 4, 5: equal 2, 0, 2, 2, 0 of 2 each; image 6 is hers alone
    assert cleo.agreement == pytest.approx(6 / 10)


def test_every_label_stays_beside_the_manifest(folder: Path) -> None:
    source = table(folder / "l.csv", THREE)
    merge_labels([source], folder / "manifest.csv")
    said = annotations_of(open_dataset(folder))
    assert said is not None and len(said.label) == 20 and len(said.files) == 8, "those of a tie too"
    assert np.array_equal(said.votes(), read_annotations([source]).votes())
    (folder / "annotations.csv").unlink()
    assert annotations_of(open_dataset(folder)) is None


def test_tables_of_one_person_each_are_named_after_them(folder: Path) -> None:
    for who, letters in THREE.items():
        path = table(folder / f"{who}.csv", {"x": letters}, "file,shift,class")
        path.write_text(path.read_text().replace(",x,", ",night,"))
    said = read_annotations([folder / f"{who}.csv" for who in THREE])
    assert said.annotators == ["anna", "ben", "cleo"] and len(said.label) == 20


def test_parquet_and_csv_tables_go_together(folder: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"file": ["0.png"], "annotator": ["dan"], "label": ["pit"]}), folder / "d.parquet")
    said = read_annotations([table(folder / "l.csv", THREE), folder / "d.parquet"])
    assert said.annotators == ["anna", "ben", "cleo", "dan"]
    assert said.votes()[said.files.index("0.png")].tolist() == [0, 3, 1]


def test_the_other_columns_of_a_manifest_are_taken_over(folder: Path) -> None:
    base = folder / "raw.csv"
    lines = [f"{place}.png,?,0.1,part-{place},2030-01-01" for place in (7, 6, 5, 4, 3, 2, 1, 0)]
    base.write_text("\n".join(["file,class,confidence,part,expires", *lines, "9.png,?,0,part-9,"]) + "\n")
    result = merge_labels([table(folder / "l.csv", THREE)], folder / "manifest.csv", manifest=base)
    first = rows(folder / "manifest.csv")[1]
    assert first["part"] == "part-1" and first["expires"] == "2030-01-01" and first["confidence"] == "0.6667"
    assert result.without_labels == 1
    base.write_text("file,part\n0.png,a\n")
    with pytest.raises(BadInput, match=r"raw\.csv: 7 of the labelled images are not in it, first 1\.png"):
        merge_labels([folder / "l.csv"], folder / "manifest.csv", manifest=base)


def test_another_manifest_is_not_overwritten(folder: Path) -> None:
    source = table(folder / "l.csv", THREE)
    (folder / "manifest.csv").write_text("mine")
    with pytest.raises(BadInput, match=r"manifest\.csv: is there already and differs; --force replaces it"):
        merge_labels([source], folder / "manifest.csv")
    assert (folder / "manifest.csv").read_text() == "mine" and not (folder / "annotations.csv").exists()
    merge_labels([source], folder / "manifest.csv", force=True)
    merge_labels([folder / "annotations.csv"], folder / "manifest.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,annotator\n0.png,anna\n", "no column label or class"),
        ("annotator,label\nanna,pit\n", "no column file"),
        ("file,annotator,label\n", "no label is listed"),
        ("file,annotator,label\n0.png,,pit\n", "line 2 has no annotator"),
        ("file,annotator,label\n0.png,anna,\n", "line 2 has no label"),
        ("file,annotator,label\n../0.png,anna,pit\n", "must be a path within the folder"),
        ("file,annotator,label\n0.png,anna,pit\n./0.png,anna,good\n", "line 3: anna has labelled 0.png before, at .*2"),
        ("file,annotator,label\n0.png,anna,pit\n0.png,anna,pit\n", "line 3: anna has labelled 0.png before"),
        ("file,annotator,label\n0.png,anna,pit\n99.png,anna,good\n", "1 of 2 labelled images do not lie beside it"),
        ("file,annotator,label\n0.png,anna,pit\n1.png,anna,pit\n", "all images are of one class, 'pit'"),
        ("file,annotator,label\n0.png,anna,pit\n0.png,ben,good\n", "on none of 1 images is a class ahead"),
    ],
)
def test_labels_that_do_not_fit_are_one_clear_line_and_write_nothing(folder: Path, text: str, message: str) -> None:
    (folder / "l.csv").write_text(text)
    with pytest.raises(BadInput, match=message) as error:
        merge_labels([folder / "l.csv"], folder / "manifest.csv")
    assert "\n" not in str(error.value)
    assert not (folder / "manifest.csv").exists() and not (folder / "annotations.csv").exists()


def test_a_table_that_is_not_there(folder: Path) -> None:
    with pytest.raises(NotFound):
        read_annotations([folder / "gone.csv"])


def crowd(seed: int = 0, count: int = 400) -> tuple[dict[str, str], str]:
    """Two careful annotators and three who call half of the good parts pitted; and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.6, 0.25, 0.15])
    said = {}
    for who, error in {"anna": 0.05, "ben": 0.08, "cleo": 0.5, "dan": 0.5, "eve": 0.5}.items():
        wrong = (truth + rng.integers(1, 3, count)) % 3 if error < 0.1 else np.where(truth == 1, 0, 1)
        said[who] = "".join("gpd"[label] for label in np.where(rng.random(count) < error, wrong, truth))
    return said, "".join("gpd"[label] for label in truth)


def test_dawid_skene_believes_the_careful_annotators(tmp_path: Path) -> None:
    pytest.importorskip("crowdkit")
    said, truth = crowd()
    found = read_annotations([table(tmp_path / "l.csv", said)])
    share = dawid_skene(found)
    assert share.shape == (400, 3) and np.allclose(share.sum(axis=1), 1) and share.max(axis=1).std() > 0.01
    right = np.array([{"g": "good", "p": "pit", "d": "dent"}[letter] for letter in truth])
    by_model = np.mean(np.array(found.names)[merging.consensus(share)] == right)
    by_count = np.mean(np.array(found.names)[found.votes().argmax(axis=1)] == right)
    assert by_model > 0.95 > 0.9 > by_count


def test_dawid_skene_in_a_manifest(folder: Path) -> None:
    pytest.importorskip("crowdkit")
    source = table(folder / "l.csv", {who: letters[:8] for who, letters in crowd()[0].items()})
    result = merge_labels([source], folder / "manifest.csv", method="dawid-skene")
    assert result.method == "dawid-skene" and result.decided == 8
    assert all(0 < float(row["confidence"]) <= 1 for row in rows(folder / "manifest.csv"))


def test_without_crowd_kit_one_sentence_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "crowdkit.aggregation", None)
    source = table(folder / "l.csv", THREE)
    with pytest.raises(MissingPackage, match=r'pip install "lineside\[annotators\]"'):
        merge_labels([source], folder / "manifest.csv", method="dawid-skene")
    assert not (folder / "manifest.csv").exists()


def test_agreement_is_one_when_all_agree_and_about_nothing_by_chance() -> None:
    same = np.array([[4, 0], [0, 4], [4, 0]])
    assert fleiss_kappa(same) == krippendorff_alpha(same) == 1
    rng = np.random.default_rng(0)
    chance = np.array([np.bincount(rng.integers(0, 3, 5), minlength=3) for _ in range(4000)])
    assert fleiss_kappa(chance) == pytest.approx(0, abs=0.02) and krippendorff_alpha(chance) == pytest.approx(
        0, abs=0.02
    )


def test_agreement_that_is_not_defined_is_none() -> None:
    for votes in (np.array([[1, 0], [0, 1]]), np.array([[3, 0], [2, 0]]), np.zeros((0, 2), int)):
        assert fleiss_kappa(votes) is None and krippendorff_alpha(votes) is None
    assert np.isnan(disagreement(np.array([[1, 0]]))).all()


def test_marks_in_another_order_are_the_same_label(tmp_path: Path) -> None:
    for who, cells in (("anna", ["pit|scratch", "good"]), ("ben", ["scratch | pit", "good"])):
        rows = "".join(f"{row}.png,{cell}\n" for row, cell in enumerate(cells))
        (tmp_path / f"{who}.csv").write_text(f"file,label\n{rows}")
    found = read_annotations([tmp_path / "anna.csv", tmp_path / "ben.csv"])
    assert found.names == ["good", "pit|scratch"]
    assert disagreement(found.votes()).tolist() == [0.0, 0.0]


def test_a_manifest_that_is_no_table_of_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is written as a table of text, such as .*x\.csv"):
        merge_labels([tmp_path / "a.csv"], tmp_path / "x.parquet")
