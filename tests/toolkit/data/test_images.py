"""Data sets: what folders and manifests mean, what is refused, and how pixels are read."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput, LinesideError, NotFound
from device_agent.contract.manifest import InputSpec
from toolkit.data.decoding import _Room
from toolkit.data.images import Dataset, load, open_dataset, pixel_digests
from toolkit.data.pool import open_pool

SPEC = InputSpec(height=16, width=16)


def write_image(path: Path, seed: int, height: int = 16, width: int = 16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three images."""
    for place in range(3):
        write_image(tmp_path / "set/Good" / f"{place}.png", place)
        write_image(tmp_path / "set/crack" / f"{place}.png", 10 + place)
    return tmp_path / "set"


def manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder


def test_a_folder_per_class(folder: Path) -> None:
    (folder / ".cache").mkdir()
    (folder / "notes.txt").write_text("not an image")
    (folder / "crack" / "notes.txt").write_text("not an image")
    write_image(folder / "crack" / "deep" / "x.PNG", 20)
    dataset = open_dataset(folder)
    assert dataset.names == ["Good", "crack"] and dataset.roles == ["good", "defect"]
    plain = [f"{name}/{place}.png" for name in ("Good", "crack") for place in range(3)]
    assert dataset.files == [*plain, "crack/deep/x.PNG"]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 1, 1] and dataset.counts().tolist() == [3, 4]
    assert dataset.splits is None and len(set(dataset.groups)) == 7
    assert [(label.name, label.role) for label in dataset.label_list()] == [("Good", "good"), ("crack", "defect")]


def test_images_of_equal_pixels_share_a_group_even_across_formats(folder: Path) -> None:
    copy = cv2.imread(str(folder / "Good/1.png"))
    cv2.imwrite(str(folder / "Good/copy.bmp"), copy)
    cv2.imwrite(str(folder / "crack/copy.tiff"), copy)
    dataset = open_dataset(folder)
    group = dict(zip(dataset.files, dataset.groups.tolist(), strict=True))
    assert group["Good/copy.bmp"] == group["Good/1.png"] == group["crack/copy.tiff"]
    assert len(set(group.values())) == 6
    assert len(set(open_dataset(folder, join=False).groups)) == 8


def test_equal_pixels_join_the_groups_of_a_manifest_and_leave_the_digest_alone(folder: Path) -> None:
    cv2.imwrite(str(folder / "Good/copy.bmp"), cv2.imread(str(folder / "Good/1.png")))
    rows = ["Good/0.png,Good,a", "Good/1.png,Good,b", "Good/copy.bmp,Good,c", "crack/0.png,crack,c"]
    manifest(folder, "\n".join(["file,class,group", *rows]) + "\n")
    joined, stated = open_dataset(folder), open_dataset(folder, join=False)
    assert joined.groups.tolist() == ["a", "b", "b", "b"] and stated.groups.tolist() == ["a", "b", "c", "c"]
    assert joined.sha256() == stated.sha256()


def test_links_are_followed_and_one_that_leads_nowhere_is_no_missing_image(folder: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "store" / "a.png", 30)
    (folder / "crack" / "day2").symlink_to(tmp_path / "store")
    (folder / "crack" / "round").symlink_to(folder / "crack")
    assert open_dataset(folder).files[-1] == "crack/day2/a.png" and len(open_dataset(folder)) == 7
    assert open_pool(folder).files == sorted(open_dataset(folder).files)
    (folder / "crack" / "3.png").symlink_to("/gone/3.png")
    with pytest.raises(BadInput, match=r"1 of 8 files are links that lead nowhere, first crack/3\.png"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [(b"caf\xe9.png", "has a control character"), (b"a\nb.png", "has a control character"), (b" .png", "blank")],
)
def test_a_name_that_no_table_can_hold_is_refused(folder: Path, name: bytes, message: str) -> None:
    path = os.path.join(os.fsencode(folder), b"crack" if b" " not in name else b" oil", name)  # noqa: PTH118
    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
    os.replace(folder / "crack" / "0.png", path)  # noqa: PTH105
    with pytest.raises(BadInput, match=message):
        open_dataset(folder)


def test_only_some_images_of_a_set(folder: Path) -> None:
    text = "file,class,group,split,camera\n" + "".join(
        f"{name}/{place}.png,{name},{name}{place},{split},{place}\n"
        for name in ("crack", "Good")
        for place, split in enumerate(("train", "val", "test"))
    )
    some = open_dataset(manifest(folder, text)).only([1, 5])
    assert some.files == ["crack/1.png", "Good/2.png"] and some.labels.tolist() == [1, 0]
    assert some.groups.tolist() == ["crack1", "Good2"] and some.columns == {"camera": ["1", "2"]}
    assert some.splits is not None and some.splits.tolist() == ["val", "test"] and some.names == ["Good", "crack"]


def test_groups_joined_in_a_chain_become_one(folder: Path) -> None:
    for source, target in (("0.png", "a.bmp"), ("1.png", "a.png"), ("1.png", "b.bmp"), ("2.png", "b.png")):
        cv2.imwrite(str(folder / "Good" / target), cv2.imread(str(folder / "Good" / source)))
    good = open_dataset(folder).groups[:7]
    assert len(set(good.tolist())) == 1


def test_a_manifest_with_every_column(folder: Path) -> None:
    text = "\ufefffile,label,part,split,camera,light\n" + "".join(
        f"{name}/{place}.png,{name},p{place},{split},7,0.9\n"
        for name in ("crack", "Good")
        for place, split in enumerate(("train", "val", "test"))
    )
    dataset = open_dataset(manifest(folder, text))
    assert dataset.names == ["Good", "crack"] and dataset.labels.tolist() == [1, 1, 1, 0, 0, 0]
    assert dataset.groups.tolist() == ["p0", "p1", "p2"] * 2
    assert dataset.splits is not None and dataset.splits.tolist() == ["train", "val", "test"] * 2
    assert dataset.columns == {"camera": ["7"] * 6, "light": ["0.9"] * 6}


def test_empty_groups_and_splits_of_a_manifest_say_nothing(folder: Path) -> None:
    text = "file,class,group,split\ncrack/0.png,crack,,\ncrack/1.png,crack,a,\nGood/0.png,Good,,\n"
    dataset = open_dataset(manifest(folder, text))
    assert dataset.groups.tolist() == ["crack/0", "a", "Good/0"] and dataset.splits is None


def test_roles_can_be_given(folder: Path) -> None:
    (folder / "labels.json").write_text('{"crack": "good", "Good": "defect"}')
    assert open_dataset(folder).roles == ["defect", "good"]
    for text in ('{"crack": "bad"}', '{"rust": "good"}', "{", "[]"):
        (folder / "labels.json").write_text(text)
        with pytest.raises(BadInput, match=r"labels\.json"):
            open_dataset(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no image is listed"),
        ("file,class\n", "no image is listed"),
        ("path,class\na,b\n", "no column file; it has path, class"),
        ("file,kind\ncrack/0.png,crack\n", "no column class or label; it has kind"),
        ("file,class\ncrack/0.png\n", "line 2 has 1 fields, the header 2"),
        ("file,class\ncrack/0.png,\n", "line 2 has no class"),
        ("file,class\n\n\ncrack/0.png,crack\n\nGood/0.png,\n", "line 6 has no class"),
        ("file,class\n\ncrack/0.png,crack,\n", "line 3 has 3 fields"),
        ("file,class,split\n\ncrack/0.png,crack,x\n", "line 3: split must be"),
        ("file,class,Group\ncrack/0.png,crack,a\n", "column 'Group' must be written 'group'"),
        ("file,class,group,class\ncrack/0.png,crack,a,Good\n", "column 'class' stands twice"),
        ("file,class\ncrack/./0.png,crack\ncrack/0.png,Good\n", "crack/0.png is listed twice"),
        ("file,class\ncrack/0.png,crack\nGood/0.png,Go\x1b[2Jod\n", "control character"),
        (
            "file,class\ncrack/0.png,crack\nGood/9.png,Good\nGood/8.png,Good\n",
            "2 of 3 files do not exist, first Good/9.png",
        ),
        ("file,class\n../set/crack/0.png,crack\n", "must be a path within the folder"),
        ("file,class\n/etc/hostname,crack\n", "must be a path within the folder"),
        ("file,class\n,crack\n", "must be a path within the folder"),
        ("file,class\ncrack/0.png,crack\ncrack/0.png,Good\n", "crack/0.png is listed twice"),
        ("file,class\ncrack/0.png,crack\ncrack/1.png,crack\n", "all images are of one class, 'crack'"),
        (
            "file,class,split\ncrack/0.png,crack,train\nGood/0.png,Good,valid\n",
            "line 3: split must be one of train, val, test",
        ),
        ("file,class,split\ncrack/0.png,crack,train\nGood/0.png,Good,\n", "line 3: split must be one of"),
        ('file,class\n"crack/0.png,crack\n', "cannot be read as a csv file"),
    ],
)
def test_a_manifest_that_does_not_fit_is_one_clear_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as error:
        open_dataset(manifest(folder, text))
    assert "\n" not in str(error.value) and error.value.exit_code == 1


def test_a_file_has_one_spelling(folder: Path) -> None:
    assert open_dataset(manifest(folder, "file,class\ncrack/./0.png,crack\nGood//0.png,Good\n")).files == [
        "crack/0.png",
        "Good/0.png",
    ]


def test_a_wrong_role_is_named_plainly(folder: Path) -> None:
    (folder / "labels.json").write_text('{"crack": "bad"}')
    with pytest.raises(BadInput, match=r"labels\.json: class 'crack' must be good or defect, got 'bad'$"):
        open_dataset(folder)


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read: file name too long"):
        open_dataset(tmp_path / ("x" * 300))
    (tmp_path / "manifest.csv").write_text(f"file,class\n{'x' * 300}.png,a\n")
    with pytest.raises(BadInput, match="cannot be read: file name too long"):
        open_dataset(tmp_path)


def test_large_pictures_are_decoded_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [0], [0]

    def slow(path: Path) -> np.ndarray:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return np.zeros((16, 16, 3), np.uint8)

    dataset = open_dataset(folder)
    monkeypatch.setattr("toolkit.data.decoding.read_picture", slow)
    monkeypatch.setattr("toolkit.data.decoding.os.cpu_count", lambda: 4)
    for room, together in ((16 * 16, 1), (2 * 16 * 16 + 1, 2)):
        most[0] = 0
        monkeypatch.setattr("toolkit.data.decoding._ROOM", _Room(room))
        load(dataset, SPEC, range(6))
        assert most[0] <= together
    monkeypatch.setattr("toolkit.data.decoding._ROOM", _Room(1))
    assert load(dataset, SPEC, range(6)).shape == (6, 16, 16, 3), "one that is larger than the room gets all of it"


def test_a_manifest_in_another_encoding_is_refused(folder: Path) -> None:
    (folder / "manifest.csv").write_bytes("file,class\ncrack/0.png,Gr\u00fcn\n".encode("latin-1"))
    with pytest.raises(BadInput, match="utf-8"):
        open_dataset(folder)


def test_a_class_name_that_no_bundle_can_hold_is_refused(folder: Path) -> None:
    (folder / "crack").rename(folder / ("c" * 64))
    open_dataset(folder)
    (folder / ("c" * 64)).rename(folder / ("c" * 65))
    with pytest.raises(BadInput, match="has 65 characters; at most 64"):
        open_dataset(folder)


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "validation", "test")])
def test_folders_of_splits_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for seed, name in enumerate(names):
        write_image(tmp_path / name / "good" / "a.png", seed)
    with pytest.raises(BadInput, match=r"are splits, not classes; .* manifest\.csv"):
        open_dataset(tmp_path)
    write_image(tmp_path / "crack" / "a.png", 9)
    assert "crack" in open_dataset(tmp_path).names


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path, folder: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(LinesideError) as error:
            open_dataset(path)
        return str(error.value)

    assert "no such folder" in message(tmp_path / "gone")
    with pytest.raises(NotFound):
        open_dataset(tmp_path / "gone")
    assert "is a file" in message(folder / "crack/0.png")
    (tmp_path / "empty").mkdir()
    assert "no image there" in message(tmp_path / "empty")
    write_image(tmp_path / "flat/a.png", 0)
    assert "one folder of images per class" in message(tmp_path / "flat")
    write_image(tmp_path / "one/good/a.png", 0)
    assert "all images are of one class, 'good'" in message(tmp_path / "one")
    (folder / "rust").mkdir()
    assert "rust: no image in this class folder" in message(folder)


def test_an_unreadable_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def guarded(path: str | Path) -> Any:
        if Path(path).name == "crack":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("toolkit.data.listing.os.scandir", guarded)
    with pytest.raises(BadInput, match="crack: cannot be read: permission denied"):
        open_dataset(folder)


def test_load_fits_mixed_sizes_in_the_asked_order(folder: Path) -> None:
    write_image(folder / "crack/big.jpg", 5, 90, 41)
    write_image(folder / "crack/small.png", 6, 5, 9)
    dataset = open_dataset(folder)
    calls: list[tuple[int, int]] = []
    order = np.array([7, 0, 4, 6])
    images = load(dataset, SPEC, order, lambda done, total: calls.append((done, total)))
    assert images.shape == (4, 16, 16, 3) and images.dtype == np.uint8 and images.std() > 20
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert np.array_equal(images[1], cv2.imread(str(folder / "Good/0.png"))[:, :, ::-1])
    everything = load(dataset, SPEC, range(len(dataset)))
    assert np.array_equal(images, everything[order])
    grey = load(dataset, InputSpec(height=8, width=8, channels=1, colour_order="grey"), [0])
    assert grey.shape == (1, 8, 8, 1)


def test_load_of_nothing_is_empty(folder: Path) -> None:
    assert load(open_dataset(folder), SPEC, []).shape == (0, 16, 16, 3)


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def test_damaged_images_are_counted_and_the_first_is_named(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert len(set(pixel_digests(dataset))) == 6
    spoil(folder / "crack/1.png")
    with pytest.raises(BadInput, match=r"crack/1\.png: not a whole .* picture$"):
        load(dataset, SPEC, range(6))
    spoil(folder / "Good/2.png")
    with pytest.raises(BadInput, match=r"Good/2\.png: not a whole .*2 of 6 images cannot be read; lineside data check"):
        load(dataset, SPEC, range(6))
    with pytest.raises(BadInput, match="2 of 6 images cannot be read"):
        open_dataset(folder)
    problems = [str(found) for found in pixel_digests(dataset) if isinstance(found, BadInput)]
    assert [problem.partition(":")[0].rpartition("set/")[2] for problem in problems] == ["Good/2.png", "crack/1.png"]


def test_the_digest_depends_on_content_class_and_group_and_not_on_the_order(folder: Path) -> None:
    rows = ["crack/0.png,crack,a", "crack/1.png,crack,b", "Good/0.png,Good,c"]

    def digest(lines: list[str]) -> str:
        return open_dataset(manifest(folder, "file,class,group\n" + "\n".join(lines) + "\n")).sha256()

    first = digest(rows)
    assert len(first) == 64
    assert digest(rows[::-1]) == first
    assert digest([*rows[:2], "Good/0.png,Good,d"]) != first
    assert digest([*rows[:2], "Good/0.png,crack,c", "Good/1.png,Good,e"]) != first
    write_image(folder / "Good/0.png", 99)
    assert digest(rows) != first


def test_xsdd_is_read_as_its_manifest_says(data_dir: Path) -> None:
    dataset: Dataset = open_dataset(data_dir / "xsdd")
    assert len(dataset) == 1360 and len(dataset.names) == 7 and dataset.splits is not None
    assert len(set(dataset.groups.tolist())) == 138
    images = load(dataset, InputSpec(height=64, width=64), np.arange(0, 1360, 40))
    assert images.shape == (34, 64, 64, 3) and images.std() > 20
