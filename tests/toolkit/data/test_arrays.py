"""Array files: what becomes a data set, and what is refused before it is unpacked or unpickled."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device_agent.contract.errors import BadInput
from toolkit.data import array_file
from toolkit.data.array_file import ArrayFile
from toolkit.data.arrays import import_arrays
from toolkit.data.images import open_dataset

N = 12
GREY = np.random.default_rng(0).integers(0, 256, (N, 10, 8), np.uint8)
LABELS = np.arange(N) % 3
NAMES = np.array(["pit", "good", "dent"])


def saved(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def pixels(folder: Path, row: int = 0) -> np.ndarray:
    return cv2.imread(str(next(folder.glob(f"*/*{row:02d}.png"))), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return saved(tmp_path / "a.npz", images=GREY, labels=LABELS, names=NAMES, ids=np.arange(100, 100 + N))


def test_a_plain_file_becomes_a_data_set_that_opens(file: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    columns = {"group": "ids", "serial": "ids"}
    result = import_arrays(
        file, tmp_path / "set", columns=columns, progress=lambda done, all_: calls.append((done, all_))
    )
    data = open_dataset(tmp_path / "set")
    assert data.names == ["dent", "good", "pit"] and data.roles == ["defect", "good", "defect"]
    assert data.cells() == NAMES[LABELS].tolist() and data.groups.tolist() == [str(100 + row) for row in range(N)]
    assert data.columns == {"index": [str(row) for row in range(N)], "serial": [str(100 + row) for row in range(N)]}
    assert all(np.array_equal(pixels(tmp_path / "set", row), GREY[row]) for row in range(N))
    assert (result.images, result.height, result.width, result.channels) == (N, 10, 8, 1)
    assert result.classes == {"dent": 4, "good": 4, "pit": 4} and calls[-1] == (N, N)


def test_colours_keep_their_order(tmp_path: Path) -> None:
    red = np.zeros((2, 4, 4, 3), np.uint8)
    red[..., 0] = 200
    path = saved(tmp_path / "a.npz", images=red, labels=np.array(["good", "pit"]))
    import_arrays(path, tmp_path / "rgb")
    import_arrays(path, tmp_path / "bgr", bgr=True)
    opened = [cv2.imread(str(tmp_path / name / "good/0.png"))[0, 0].tolist() for name in ("rgb", "bgr")]
    assert opened == [[0, 0, 200], [200, 0, 0]]


@pytest.mark.parametrize(
    ("images", "given", "expected"),
    [
        (np.array([0, 0.5, 1]), None, [0, 128, 255]),
        (np.array([0, 0.5, 1], np.float16), None, [0, 128, 255]),
        (np.array([0, 2048, 4095], ">u2"), (0, 4095), [0, 128, 255]),
        (np.array([-100, 0, 300], np.int16), (-100, 300), [0, 64, 255]),
        (np.array([10, 20, 30], np.uint8), (10, 30), [0, 128, 255]),
        (np.array([10, 20, 30], np.uint8), None, [10, 20, 30]),
    ],
)
def test_the_stated_range_becomes_black_and_white(
    tmp_path: Path, images: np.ndarray, given: tuple[float, float] | None, expected: list[int]
) -> None:
    pictures = np.broadcast_to(images, (2, 2, 3))
    path = saved(tmp_path / "a.npz", images=pictures, labels=np.array([0, 1]))
    import_arrays(path, tmp_path / "set", range=given)
    assert cv2.imread(str(tmp_path / "set/1/1.png"), cv2.IMREAD_UNCHANGED).tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (GREY.astype(np.uint16), None, "is uint16; state which values are black and white, such as --range 0,4095"),
        (GREY.astype(np.float32), None, "image 0 has values from .* to .*, outside 0 to 1"),
        (GREY / np.float32(255) - 0.5, None, "image 0 has values from -0.49"),
        (np.full((N, 4, 4), np.nan), None, "image 0 has values from nan"),
        (GREY.astype(np.uint16), (0, 100), "image 0 has values .*, outside 0 to 100"),
        (GREY, (9, 9), "range must be two numbers, the lower first"),
        (GREY, (0, np.inf), "range must be two numbers"),
        (GREY > 9, None, "is bool; images are whole numbers or floats"),
        (GREY.astype(np.complex64), None, "is complex64"),
        (GREY[0], None, r"must be images \(n, h, w\)"),
        (GREY[:, None], None, "has its channels first; save np.moveaxis"),
        (np.zeros((N, 4, 4, 4), np.uint8), None, "with c 1 or 3, got shape"),
        (np.zeros((0, 4, 4), np.uint8), None, "got shape"),
        (np.zeros((N, 0, 4), np.uint8), None, "got shape"),
    ],
)
def test_arrays_that_are_no_images_leave_no_folder(
    tmp_path: Path, images: np.ndarray, given: tuple[float, float] | None, message: str
) -> None:
    path = saved(tmp_path / "a.npz", images=images, labels=LABELS)
    with pytest.raises(BadInput, match=message) as error:
        import_arrays(path, tmp_path / "set", range=given)
    assert "\n" not in str(error.value) and [each.name for each in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS[:5]}, r"must have one label for each of 12 images, got \(5,\)"),
        ({"labels": LABELS + 1}, "labels has 3; names are there for 0 to 2"),
        ({"labels": LABELS - 1}, "labels has -1; names"),
        ({"labels": LABELS / 2}, "labels is float64; labels are whole numbers or texts"),
        ({"labels": np.array(["pit", "rust"] * 6)}, "labels has class 'rust'; the names are pit, good, dent"),
        ({"labels": np.array(["pit", ""] * 6), "names": None}, "image 1 has an empty class"),
        ({"labels": LABELS * 0}, "all images are of one class, 'pit'"),
        ({"names": np.array(["pit", "pit", "good"])}, "is empty or stands twice"),
        ({"names": np.array(["pit", "go\x1bod", "dent"])}, "control character"),
        ({"labels": None}, r"no array 'labels'; it has images uint8 \(12, 10, 8\), names"),
        ({"images": None}, "no array 'images'"),
    ],
)
def test_labels_that_do_not_exist_are_one_clear_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    whole = {"images": GREY, "labels": LABELS, "names": NAMES, **arrays}
    path = saved(tmp_path / "a.npz", **{name: array for name, array in whole.items() if array is not None})
    with pytest.raises(BadInput, match=message) as error:
        import_arrays(path, tmp_path / "set")
    assert "\n" not in str(error.value) and not (tmp_path / "set").exists()


def test_labels_and_names_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", GREY)
    np.save(tmp_path / "y.npy", LABELS.reshape(-1, 1))
    (tmp_path / "names.txt").write_text("pit\ngood\ndent\n")
    import_arrays(
        tmp_path / "x.npy", tmp_path / "set", labels=str(tmp_path / "y.npy"), names=str(tmp_path / "names.txt")
    )
    assert open_dataset(tmp_path / "set").cells() == NAMES[LABELS].tolist()


def test_the_class_of_good_parts_can_be_named(file: Path, tmp_path: Path) -> None:
    import_arrays(file, tmp_path / "set", good="dent")
    assert json.loads((tmp_path / "set/labels.json").read_text()) == {"dent": "good"}
    assert open_dataset(tmp_path / "set").roles[0] == "good"
    with pytest.raises(BadInput, match="no image of class 'rust'; the classes are dent, good, pit"):
        import_arrays(file, tmp_path / "other", good="rust")


def test_columns_of_times_and_bytes_are_text(tmp_path: Path) -> None:
    times = np.datetime64("2026-01-01T00:00:00") + np.arange(N).astype("m8[s]")
    times[3] = "NaT"
    path = saved(tmp_path / "a.npz", images=GREY, labels=LABELS, t=times, who=np.array([b"a", b"b"] * 6))
    import_arrays(path, tmp_path / "set", columns={"time": "t", "operator": "who"})
    columns = open_dataset(tmp_path / "set").columns
    assert columns["time"][:4] == [*(f"2026-01-01T00:00:0{second}" for second in range(3)), ""]
    assert columns["operator"][:2] == ["a", "b"]
    with pytest.raises(BadInput, match=r"images must be numbers, times or texts \(12,\)"):
        import_arrays(path, tmp_path / "other", columns={"time": "images"})


def test_class_names_reach_no_folder_outside(tmp_path: Path) -> None:
    names = np.array(["../../up", "/etc", "a/b", ".."])
    path = saved(tmp_path / "a.npz", images=GREY, labels=np.arange(N) % 4, names=names)
    import_arrays(path, tmp_path / "in/set")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.npz", "in"]
    assert open_dataset(tmp_path / "in/set").cells() == names[np.arange(N) % 4].tolist()


def test_a_folder_in_use_is_left_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine.txt").write_text("mine")
    for out in (tmp_path / "set", file):
        with pytest.raises(BadInput, match="is there already"):
            import_arrays(file, out)
    assert [each.name for each in (tmp_path / "set").iterdir()] == ["mine.txt"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize("name", ["images", "labels", "names"])
def test_pickled_objects_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    arrays = {"images": GREY, "labels": LABELS, "names": NAMES, name: np.array([Evil()] * N, object)}
    path = saved(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=f"{name} holds pickled Python objects, which can run any program"):
        import_arrays(path, tmp_path / "set")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(BadInput, match=r"cannot be read as an \.npz or \.npy file"):
        import_arrays(tmp_path / "b.npz", tmp_path / "set")
    assert not (tmp_path / "pwned").exists()


def bomb(path: Path, shape: tuple[int, ...], content: bytes = b"") -> Path:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + content)
        labels = io.BytesIO()
        np.save(labels, np.arange(shape[0] % 1000) % 2)
        archive.writestr("labels.npy", labels.getvalue())
    return path


def test_a_small_file_that_unpacks_into_a_large_one_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bomb(tmp_path / "a.npz", (100, 500, 500), bytes(100 * 500 * 500))
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(ArrayFile, "_take", lambda *_: pytest.fail("was unpacked"))
    with pytest.raises(BadInput, match=r"unpacks into 0\.0 GiB, over the limit of 0\.01 GiB; --limit-gib 1 allows it"):
        list(ArrayFile(path).batches("images", 0.01))


@pytest.mark.parametrize("shape", [(2**40, 2**40, 2), (10, 10, 10), (-5, 4, 4)])
def test_an_array_that_says_another_size_than_it_has_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="the file is damaged"):
        ArrayFile(bomb(tmp_path / "a.npz", shape, bytes(999)))


def test_labels_that_unpack_into_a_large_array_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_file, "_MOST_ASIDE", 50)
    with pytest.raises(BadInput, match=r"labels is int64 .* over the limit"):
        import_arrays(file, tmp_path / "set")


@pytest.mark.parametrize("spoil", [lambda data: data[:-200], lambda data: b"", lambda data: b"PK\3\4" + data[9:]])
def test_a_damaged_file_is_one_line_and_leaves_nothing(file: Path, tmp_path: Path, spoil: Any) -> None:
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(BadInput) as error:
        import_arrays(file, tmp_path / "set")
    assert "\n" not in str(error.value) and [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_a_flipped_bit_is_found_while_unpacking_and_leaves_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[data.index(GREY.tobytes()[:50]) + 20] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(BadInput, match=r"cannot be read as an \.npz or \.npy file: bad crc"):
        import_arrays(tmp_path / "a.npz", tmp_path / "set")
    assert [each.name for each in tmp_path.iterdir()] == ["a.npz"]


def test_two_arrays_of_one_name_are_refused(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("labels.npy", b"x")
    with pytest.raises(BadInput, match="two arrays of one name"):
        ArrayFile(file)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_in_parts_and_in_any_order_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    path = saved(tmp_path / "a.npz", images=np.asarray(GREY, order=order))
    monkeypatch.setattr(array_file, "_BATCH_BYTES", 3 * 80)
    parts = list(ArrayFile(path).batches("images", 1))
    assert np.array_equal(np.concatenate(parts), GREY)
    assert [len(part) for part in parts] == ([3] * 4 if order == "C" else [N])


def test_the_infrared_modules_are_imported_as_they_are(data_dir: Path) -> None:
    file = ArrayFile(data_dir / "ism/ism_full.npz")
    assert file.header("images").shape == (20000, 40, 24) and len(file.read("classes")) == 12
    assert sum(len(part) for part in file.batches("images", 1)) == 20000


@pytest.mark.parametrize("limit", [0, float("nan")])
def test_a_limit_that_is_none_allows_nothing(file: Path, tmp_path: Path, limit: float) -> None:
    with pytest.raises(BadInput, match="over the limit"):
        import_arrays(file, tmp_path / "set", limit_gib=limit)
    assert not (tmp_path / "set").exists()


def test_more_images_than_a_data_set_may_have_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.data.arrays.MOST_ROWS", N - 1)
    with pytest.raises(BadInput, match="images has 12 images; a data set has at most 11"):
        import_arrays(file, tmp_path / "set")


def test_an_array_called_classes_that_has_no_names_is_left_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", images=GREY, labels=NAMES[LABELS], classes=LABELS)
    assert import_arrays(path, tmp_path / "set").classes == {"dent": 4, "good": 4, "pit": 4}
    with pytest.raises(BadInput, match=r"classes must be texts \(classes,\), got int64"):
        import_arrays(path, tmp_path / "other", names="classes")
