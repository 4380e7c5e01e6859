"""Addresses of sources, and what the sources deliver."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, LinesideError, Unreachable
from device_agent.frames import Frame, FrameSource, SourceEnded, open_source, parse_source
from device_agent.frames.camera import Camera
from device_agent.frames.folder import Item, list_images

cv2 = pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
MakeFolder = Callable[..., Path]


def opened(text: str, clock: Any = lambda: 0) -> FrameSource:
    return open_source(parse_source(text), clock)


def read_all(source: FrameSource, most: int = 10_000) -> list[Frame]:
    out: list[Frame] = []
    try:
        while len(out) < most:
            out.append(source.read())
    except SourceEnded:
        return out
    return out


def levels(frames: list[Frame]) -> list[int]:
    return [int(frame.image[0, 0, 0]) for frame in frames]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Images of one grey level each: good 100 to 107, scratch 200 to 203."""

    def make(manifest: bool = False) -> Path:
        rows = []
        for label, first, count in (("good", 100, 8), ("scratch", 200, 4)):
            (tmp_path / "set" / label).mkdir(parents=True)
            for k in range(count):
                name = f"{label}/{k}.png"
                cv2.imwrite(str(tmp_path / "set" / name), np.full((20, 30, 3), first + k, np.uint8))
                rows.append({"file": name, "class": label, "split": "test" if k % 2 else "train"})
        if manifest:
            with (tmp_path / "set" / "manifest.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ["file", "class", "split"])
                writer.writeheader()
                writer.writerows(rows)
        return tmp_path / "set"

    return make


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("camera:0", ("camera", "0", {})),
        ("camera:1:width=640,fps=5", ("camera", "1", {"width": "640", "fps": "5"})),
        ("synthetic", ("synthetic", "", {})),
        ("synthetic:seed=3,good=0.9", ("synthetic", "", {"seed": "3", "good": "0.9"})),
        ("folder:/data/a:b", ("folder", "/data/a:b", {})),
        ("folder:C:once=1", ("folder", "C", {"once": "1"})),
        ("video:line.mp4", ("video", "line.mp4", {})),
        ("http://10.0.0.7:8080/?action=stream", ("stream", "http://10.0.0.7:8080/?action=stream", {})),
    ],
)
def test_addresses(text: str, parts: tuple[str, str, dict[str, str]]) -> None:
    assert tuple(parse_source(text))[:3] == parts


@pytest.mark.parametrize("text", ["", "webcam:0", "folder:", "camera", "synthetic:9", "stream:x", "folder:seed=1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="source"):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("synthetic:speed=1", "options are"),
        ("synthetic:good=1.5", "<= 1"),
        ("synthetic:seed=abc", "int"),
        ("synthetic:product=9", "<"),
        ("camera:front", "must be a number"),
        ("synthetic:fps=1e-310", "fps"),
        ("synthetic:fps=nan", "fps"),
        ("synthetic:dirt_at=inf", "dirt_at"),
        ("folder:/no/such/folder", "is no folder"),
        ("video:/no/such/file.mp4", "is no file"),
    ],
)
def test_sources_that_cannot_be_opened(text: str, said: str) -> None:
    with pytest.raises(LinesideError, match=said):
        opened(text)


def test_a_pass_shows_each_image_once_in_an_order_of_the_seed(make_folder: MakeFolder) -> None:
    folder = make_folder()
    first, again, other = (levels(read_all(opened(f"folder:{folder}:once=1,seed={seed}"))) for seed in (1, 1, 2))
    assert sorted(first) == [*range(100, 108), *range(200, 204)]
    assert first == again != other


def test_without_once_passes_follow_each_other_in_new_orders(make_folder: MakeFolder) -> None:
    shown = levels(read_all(opened(f"folder:{make_folder()}"), 24))
    assert sorted(shown[:12]) == sorted(shown[12:]) and shown[:12] != shown[12:]


def test_one_split_of_the_manifest(make_folder: MakeFolder) -> None:
    shown = levels(read_all(opened(f"folder:{make_folder(manifest=True)}:once=1,split=test")))
    assert sorted(shown) == [101, 103, 105, 107, 201, 203]


def test_the_share_of_good_parts(make_folder: MakeFolder) -> None:
    shown = levels(read_all(opened(f"folder:{make_folder()}:good=0.9"), 2000))
    assert 0.88 < np.mean(np.array(shown) < 200) < 0.92
    assert set(shown) == {*range(100, 108), *range(200, 204)}


def test_a_part_stays(make_folder: MakeFolder) -> None:
    frames = read_all(opened(f"folder:{make_folder()}:hold=3"), 9)
    assert [frame.part for frame in frames] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [frame.stamp for frame in frames] == list(range(9))
    assert len(set(levels(frames))) == 3


def test_files_that_are_no_images_are_passed_over(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "good" / "broken.png").write_bytes(b"not a picture")
    (folder / "good" / "empty.jpg").write_bytes(b"")
    assert len(read_all(opened(f"folder:{folder}:once=1"))) == 12


def test_only_files_that_are_no_images(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"not a picture")
    for once in ("0", "1"):
        with pytest.raises(BadInput, match="can be decoded"):
            opened(f"folder:{tmp_path}:once={once}").read()


@pytest.mark.parametrize("options", ["good=0.5", "split=test", "once=1,good=0.5"])
def test_folders_that_do_not_fit_the_options(tmp_path: Path, options: str) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(BadInput):
        opened(f"folder:{tmp_path}:{options}")


def test_a_manifest_as_a_spreadsheet_writes_it(tmp_path: Path) -> None:
    text = "\ufefffile , class,split\r\n\r\na.png, good , test \r\nb.png,good,train\r\nc.png\r\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8", newline="")
    assert list_images(tmp_path, split="test") == [Item(tmp_path / "a.png", "good")]
    assert [item.label for item in list_images(tmp_path)] == ["good", "good", ""]


def test_an_empty_manifest_needs_its_columns(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").touch()
    with pytest.raises(BadInput, match="needs a column 'file'"):
        list_images(tmp_path)


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00nonsense")
    with pytest.raises(BadInput, match=r"manifest\.csv"):
        opened(f"folder:{tmp_path}")


@pytest.mark.parametrize("kind", ["folder", "synthetic"])
def test_disturbances_begin_when_they_are_told_to(make_folder: MakeFolder, clock: Any, kind: str) -> None:
    folder = make_folder()
    if kind == "folder":
        rng = np.random.default_rng(0)
        for path in folder.rglob("*.png"):
            cv2.imwrite(str(path), rng.integers(60, 200, (48, 64, 3)).astype(np.uint8))
    at = f"{kind}:{folder}:" if kind == "folder" else "synthetic:"

    def run(options: str) -> list[np.ndarray[Any, Any]]:
        source = opened(f"{at}seed=4,{options}", clock)
        out = []
        for _ in range(6):
            out.append(source.read().image.astype(float))
            clock.pass_s(1)
        return out

    plain = run("hold=6")
    for options in ("dirt_at=3,dirt=0.8", "changeover_at=3", "light=0.5,light_at=3"):
        changed = run(f"hold=6,{options}")
        same = [bool((one == two).all()) for one, two in zip(plain, changed, strict=True)]
        assert same[:3] == [True] * 3 and not any(same[3:]), options


def test_the_same_seed_draws_the_same_parts() -> None:
    one, two, other = ([frame.image for frame in read_all(opened(f"synthetic:seed={s}"), 5)] for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert not any((a == b).all() for a, b in zip(one, other, strict=True))
    assert one[0].shape == (96, 96, 3) and np.ptp([image.mean() for image in one]) > 0.1


def test_a_drawn_part_that_stays_is_photographed_anew() -> None:
    frames = read_all(opened("synthetic:hold=2,frames=6"))
    assert [frame.part for frame in frames] == [0, 0, 1, 1, 2, 2]
    assert not (frames[0].image == frames[1].image).all()


def test_a_camera_that_gives_garbage_is_worth_another_attempt() -> None:
    camera = object.__new__(Camera)
    camera._cv2, camera._name, camera._clock, camera._stamp = cv2, "camera 0", lambda: 0, 0
    for garbage in (np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), None):
        camera._capture = SimpleNamespace(read=lambda garbage=garbage: (True, garbage))
        with pytest.raises(Unreachable, match="camera 0 gives a frame that is no picture"):
            camera.read()


def write_video(path: Path, count: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for k in range(count):
        writer.write(np.full((48, 64, 3), 20 * k, np.uint8))
    writer.release()


def test_a_video_once_and_again(tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    write_video(path, 8)
    once = read_all(opened(f"video:{path}:once=1"))
    assert np.abs(np.array(levels(once)) - 20 * np.arange(8)).max() < 8
    assert len(read_all(opened(f"video:{path}"), 20)) == 20


def test_a_video_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "line.mp4").write_bytes(b"nothing that moves" * 100)
    with pytest.raises(BadInput, match="no video"):
        opened(f"video:{tmp_path / 'line.mp4'}")
