"""Anonymous copies: nothing but pixels is left in a file, and nothing but what was to be hidden is gone from those."""

from __future__ import annotations

import csv
import json
import struct
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.console import run
from device_agent.contract.errors import BadInput, NotFound, NotWritable
from device_agent.frames.picture import read_picture
from toolkit.cli import cli
from toolkit.data.anonymize import anonymize, clean_picture, upright
from toolkit.data.faces import MODEL, find_faces, open_detector
from toolkit.data.images import open_dataset
from toolkit.data.metadata import JPEG, PNG, WEBP, orientation, png_chunk, strip, told
from toolkit.data.retention import purge
from toolkit.data.zones import Box, Zone, conceal, read_zones

SECRET = b"SECRET Jane Doe 48.2082N"
TODAY = date(2026, 3, 1)


def lineside(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def picture(height: int = 24, width: int = 40, channels: int = 3, dtype: Any = np.uint8) -> NDArray[Any]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def encoded(suffix: str, image: NDArray[Any], *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, image, options)[1])


def decoded(data: bytes) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def exif(turn: int = 1, order: str = "<") -> bytes:
    """Orientation, a camera's name and a GPS directory."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    at = 8 + 2 + 3 * 12 + 4
    tags = struct.pack(order + "HHIHH", 274, 3, 1, turn, 0)
    tags += struct.pack(order + "HHII", 271, 2, len(SECRET), at)
    tags += struct.pack(order + "HHII", 34853, 4, 1, at + len(SECRET))
    gps = struct.pack(order + "H", 1) + struct.pack(order + "HHI", 1, 2, 2) + b"N\0\0\0" + bytes(4)
    return head + struct.pack(order + "H", 3) + tags + bytes(4) + SECRET + gps


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def telling_jpeg(image: NDArray[Any], turn: int = 1, *, progressive: bool = False, order: str = "<") -> bytes:
    plain = encoded(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive))
    thumbnail = b"JFXX\0\x10" + encoded(".jpg", image[:8, :8]) + SECRET
    extra = segment(0xE1, b"Exif\0\0" + exif(turn, order)) + segment(0xE0, thumbnail)
    extra += segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET) + segment(0xE2, b"ICC_PROFILE\0" + SECRET)
    return plain[:2] + extra + segment(0xED, SECRET) + segment(0xFE, SECRET) + plain[2:] + SECRET


def telling_png(image: NDArray[Any], turn: int = 1) -> bytes:
    plain = encoded(".png", image)
    extra = png_chunk(b"tEXt", b"Author\0" + SECRET) + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + SECRET)
    extra += png_chunk(b"zTXt", b"c\0\0" + zlib.compress(SECRET)) + png_chunk(b"tIME", bytes(7))
    extra += png_chunk(b"eXIf", exif(turn)) + png_chunk(b"prVt", SECRET)
    return plain[:33] + extra + plain[33:] + SECRET


def telling_webp(image: NDArray[Any], quality: int, turn: int = 1) -> bytes:
    plain = encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, quality)
    stream = plain[12:]
    if stream[:4] == b"VP8X":
        stream = stream[18:]
    height, width = image.shape[:2]
    wide = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    head = b"VP8X" + struct.pack("<II", 10, 0x0C) + wide
    body = b"WEBP" + head + stream
    for kind, text in ((b"EXIF", exif(turn)), (b"XMP ", SECRET)):
        body += kind + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
    return WEBP + struct.pack("<I", len(body)) + body


TELLING: dict[str, Callable[[NDArray[Any], int], bytes]] = {
    "a.jpg": telling_jpeg,
    "b.jpeg": lambda image, turn: telling_jpeg(image, turn, progressive=True, order=">"),
    "c.png": telling_png,
    "d.webp": lambda image, turn: telling_webp(image, 90, turn),
    "e.webp": lambda image, turn: telling_webp(image, 101, turn),
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A data set of two classes with a manifest, whose pictures of four formats tell more than their pixels."""
    folder, lines = tmp_path / "raw", ["file,class,part,split,camera,operator,time"]
    for number, (name, make) in enumerate(TELLING.items()):
        kind = ("ok", "pit")[number % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / name).write_bytes(make(picture(), 1))
        lines.append(f"{kind}/{name},{kind},p{number},train,c{number % 2},Jane,2026-01-0{number + 1}T08:00:00")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "labels.json").write_text('{"pit": "good"}')
    (folder / "ok" / "notes.txt").write_bytes(SECRET)
    (folder / "annotations.csv").write_bytes(SECRET)
    return folder


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.parametrize("name", TELLING)
def test_the_files_of_these_tests_do_tell(name: str) -> None:
    data = TELLING[name](picture(), 6)
    assert SECRET in data and len(told(data)) >= 2 and orientation(data) == 6
    assert decoded(data).shape == (24, 40, 3)


@pytest.mark.parametrize("name", TELLING)
def test_stripping_leaves_the_compressed_pixels_and_nothing_else(name: str) -> None:
    data = TELLING[name](picture(), 1)
    out = strip(data)
    assert out is not None and told(out) == [] and orientation(out) == 1
    assert np.array_equal(decoded(out), decoded(data))
    for trace in (SECRET[:6], b"Exif", b"EXIF", b"XMP", b"xap", b"ICC", b"tEXt", b"II*\0", b"MM\0*", b"Jane"):
        assert trace not in out
    assert strip(out) == out


def test_pillow_finds_no_metadata_either() -> None:
    pil = pytest.importorskip("PIL.Image")
    import io

    for name, make in TELLING.items():
        before, after = pil.open(io.BytesIO(make(picture(), 6))), pil.open(io.BytesIO(strip(make(picture(), 6)) or b""))
        assert dict(before.getexif()), name
        assert not dict(after.getexif()) and not after.info.get("exif") and not after.info.get("xmp"), name
        harmless = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"}
        assert set(after.info) <= harmless | {"loop", "background", "timestamp", "duration"}, name


def test_adobe_colours_survive_stripping() -> None:
    plain = encoded(".jpg", picture(), cv2.IMWRITE_JPEG_QUALITY, 100)
    at = plain.index(b"\xff\xe0")
    length = struct.unpack_from(">H", plain, at + 2)[0] + 2
    as_rgb = plain[:at] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0" + SECRET) + plain[at + length :]
    out = strip(as_rgb)
    assert out is not None and SECRET not in out and b"Adobe" in out
    assert np.array_equal(decoded(out), decoded(as_rgb)) and not np.array_equal(decoded(out), decoded(plain))


@pytest.mark.parametrize("cut", range(2, 700, 23))
def test_a_file_that_is_cut_short_is_no_crash(cut: int) -> None:
    for make in TELLING.values():
        data = make(picture(), 3)[:cut]
        strip(data), told(data), orientation(data)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_stands_as_exif_says_and_no_longer_says_so(tmp_path: Path, turn: int) -> None:
    image = picture()
    for name, make in TELLING.items():
        (tmp_path / name).write_bytes(make(image, turn))
        clean = clean_picture(tmp_path / name, [])
        expected = upright(decoded(make(image, turn)), turn)
        found = decoded(clean.data)
        assert orientation(clean.data) == 1 and told(clean.data) == [] and clean.turned == (turn > 1)
        assert found.shape == ((24, 40, 3) if turn < 5 else (40, 24, 3))
        if name in ("c.png", "e.webp") or turn == 1:
            assert np.array_equal(found, expected), name
        else:
            assert np.abs(found.astype(int) - expected).mean() < 12, name


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_that_opencv_turns_by_itself_is_turned_once(tmp_path: Path, turn: int, dtype: Any) -> None:
    pil = pytest.importorskip("PIL.Image")
    image, path = picture(channels=1, dtype=dtype), tmp_path / "a.tif"
    pil.fromarray(image).save(path, tiffinfo={270: SECRET.decode(), 274: turn, 315: "Jane"})
    assert orientation(path.read_bytes()) == turn and "tag 270" in told(path.read_bytes())
    before = read_picture(path)
    clean = clean_picture(path, [])
    path.write_bytes(clean.data)
    assert np.array_equal(decoded(clean.data), upright(image, turn)) and np.array_equal(read_picture(path), before)
    assert (
        clean.kept == "rewritten" and told(clean.data) == [] and SECRET not in clean.data and b"Jane" not in clean.data
    )


def test_what_follows_the_pixels_of_a_bmp_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(encoded(".bmp", picture()) + SECRET)
    clean = clean_picture(tmp_path / "a.bmp", [])
    assert SECRET not in clean.data and np.array_equal(decoded(clean.data), picture())


def test_the_eight_turns_are_those_that_opencv_makes(tmp_path: Path) -> None:
    image = cv2.resize(picture(3, 5), (40, 24), interpolation=cv2.INTER_NEAREST)
    for turn in range(1, 9):
        path = tmp_path / f"{turn}.jpg"
        path.write_bytes(telling_jpeg(image, turn))
        ours = upright(decoded(path.read_bytes()), turn)[:, :, ::-1]
        assert np.array_equal(read_picture(path), ours), turn


def test_a_folder_is_copied_with_its_manifest_and_without_a_trace(tmp_path: Path, raw: Path) -> None:
    before = bytes_of(raw)
    result = anonymize(raw, tmp_path / "out", drop=("operator",))
    assert bytes_of(raw) == before, "the originals are not touched"
    after = bytes_of(tmp_path / "out")
    assert set(after) == {row["file"] for row in rows_of(raw)} | {"manifest.csv", "labels.json"}
    for name, data in after.items():
        assert SECRET[:6] not in data and b"Jane" not in data, name
    for row in rows_of(raw):
        assert np.array_equal(read_picture(raw / row["file"]), read_picture(tmp_path / "out" / row["file"]))
    kept = [{name: value for name, value in row.items() if name != "operator"} for row in rows_of(raw)]
    assert rows_of(tmp_path / "out") == kept
    assert (result.images, result.stripped, result.rewritten, result.recompressed) == (5, 5, 0, 0)
    assert result.metadata["APP1"] == 2 and result.metadata["eXIf"] == 1 and result.metadata["EXIF"] == 2
    assert result.left_out == {"ok/*.txt": 1} and result.expires is None
    assert open_dataset(tmp_path / "out").roles == open_dataset(raw).roles


@pytest.mark.parametrize(
    ("suffix", "image"),
    [
        (".png", picture()),
        (".png", picture(channels=4)),
        (".png", picture(channels=1)),
        (".png", picture(dtype=np.uint16)),
        (".png", picture(channels=1, dtype=np.uint16)),
        (".bmp", picture()),
        (".tiff", picture()),
        (".tiff", picture(channels=1, dtype=np.uint16)),
        (".webp", picture()),
        (".webp", picture(channels=4)),
    ],
)
def test_pixels_outside_of_a_zone_are_bit_identical_in_lossless_formats(
    tmp_path: Path, suffix: str, image: NDArray[Any]
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, image, *([cv2.IMWRITE_WEBP_QUALITY, 101] if suffix == ".webp" else [])))
    image = decoded(path.read_bytes())
    clean = clean_picture(path, [Zone(do="blur", pixels=(4, 2, 20, 12)), Zone(do="fill", share=(0.9, 0.9, 1, 1))])
    found = decoded(clean.data)
    hidden = np.zeros(image.shape[:2], bool)
    hidden[2:12, 4:20] = hidden[21:, 36:] = True
    assert clean.kept == "rewritten" and told(clean.data) == []
    assert found.dtype == image.dtype and np.array_equal(found[~hidden], image[~hidden])
    assert (found[21:, 36:] == 0).all()
    assert not np.array_equal(found[2:12, 4:20], image[2:12, 4:20])


def test_a_zone_in_a_jpeg_costs_a_compression_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    smooth = cv2.resize(picture(4, 6), (60, 40), interpolation=cv2.INTER_CUBIC)
    path.write_bytes(telling_jpeg(smooth))
    clean = clean_picture(path, [Zone(do="fill", pixels=(0, 0, 16, 16))])
    found, old = decoded(clean.data), decoded(path.read_bytes())
    assert clean.kept == "recompressed" and told(clean.data) == []
    assert np.abs(found[24:].astype(int) - old[24:]).mean() < 3 and found[:12, :12].max() < 20


def test_a_blurred_zone_has_few_cells_of_one_colour_each() -> None:
    image = picture(64, 64)
    out = conceal(image, [Box(0, 0, 64, 32), Box(40, 40, 43, 41)])
    assert len(np.unique(out[:32].reshape(-1, 3), axis=0)) <= 8
    assert np.array_equal(out[44:], image[44:])


def test_a_crop_keeps_the_zone_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(telling_png(picture()))
    clean = clean_picture(path, [Zone(do="crop", share=(0.25, 0.5, 0.75, 1.0)), Zone(do="fill", pixels=(0, 0, 11, 24))])
    expected = picture()[12:24, 10:30].copy()
    expected[:, :1] = 0
    assert np.array_equal(decoded(clean.data), expected)


def test_zones_are_those_of_the_camera(tmp_path: Path, raw: Path) -> None:
    zones = tmp_path / "zones.toml"
    zones.write_text(
        '[[zone]]\ndo = "fill"\npixels = [0, 0, 8, 8]\nwhere = { camera = "c0" }\n'
        '[[zone]]\ndo = "crop"\nshare = [0, 0, 0.5, 1]\nwhere = { camera = "c1", class = "pit" }\n'
    )
    result = anonymize(raw, tmp_path / "out", zones=read_zones(zones))
    for row in rows_of(raw):
        found = read_picture(tmp_path / "out" / row["file"])
        assert found.shape == ((24, 40, 3) if row["camera"] == "c0" else (24, 20, 3))
        assert (found[:6, :6].max() < 60) == (row["camera"] == "c0")
    assert result.with_zones == 5 and result.stripped == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zone = 1", "expected"),
        ("zone = []", "no zone is named"),
        ('[[zone]]\ndo = "blur"', "zone 1 needs share or pixels"),
        ('[[zone]]\ndo = "blur"\nshare = [0,0,1,1]\npixels = [0,0,1,1]', "zone 1 needs share or pixels"),
        ('[[zone]]\ndo = "smear"\nshare = [0,0,1,1]', "invalid enum value"),
        ('[[zone]]\ndo = "blur"\nshare = [0,0,1.5,1]', "zone 1 must be left, top"),
        ('[[zone]]\ndo = "blur"\nshare = [0.5,0,0.5,1]', "zone 1 must be left, top"),
        ('[[zone]]\ndo = "blur"\nshare = [nan,0,0.5,1]', "zone 1 must be left, top"),
        ('[[zone]]\ndo = "blur"\npixels = [-4,0,5,1]', "zone 1 must be left, top"),
        ('[[zone]]\ndo = "blur"\nshare = [0,0,1,1]\ncamera = "c1"', "unknown field"),
        ("do = ", "invalid"),
    ],
)
def test_zones_that_hide_nothing_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "zones.toml").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_zones(tmp_path / "zones.toml")


def test_a_zone_that_would_miss_is_refused_and_nothing_is_left(tmp_path: Path, raw: Path) -> None:
    for zone, message in (
        (Zone(do="fill", pixels=(0, 0, 41, 8)), "a zone ends at 41, 8 px, the picture is 40 x 24"),
        (Zone(do="fill", pixels=(0, 0, 8, 8), where={"camera": "c7"}), "zone 1 is for no picture"),
        (Zone(do="fill", pixels=(0, 0, 8, 8), where={"lens": "1"}), "zone 1 asks for column 'lens'"),
    ):
        with pytest.raises(BadInput, match=message):
            anonymize(raw, tmp_path / "out", zones=[zone])
    with pytest.raises(BadInput, match="two zones to crop"):
        anonymize(raw, tmp_path / "out", zones=[Zone(do="crop", share=(0, 0, 1, 1))] * 2)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_faces_that_a_detector_finds_are_hidden_in_the_upright_picture(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.png", []
    path.write_bytes(telling_png(picture(), 6))

    def detector(image: NDArray[np.uint8]) -> list[Box]:
        seen.append(image.shape)
        return [Box(2, 4, 10, 16)]

    clean = clean_picture(path, [], detector)
    old, new = upright(picture(), 6), decoded(clean.data)
    assert seen == [(40, 24, 3)] and clean.faces == 1
    hidden = np.zeros((40, 24), bool)
    hidden[4:16, 2:10] = True
    assert np.array_equal(old[~hidden], new[~hidden])
    assert len(np.unique(new[hidden], axis=0)) <= 16


class FakeNet:
    """Stands for cv2.FaceDetectorYN: finds what it was told to in a view of each size."""

    def __init__(self, found: dict[tuple[int, int], list[list[float]]]) -> None:
        self.found, self.size = found, (0, 0)

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.float32] | None]:
        assert image.shape[:2] == self.size[::-1]
        rows = self.found.get(self.size)
        return 1, None if rows is None else np.array([[*row, *[0] * 11] for row in rows], np.float32)


def test_a_face_is_found_at_both_sizes_and_hidden_with_a_margin() -> None:
    net = FakeNet({(1280, 640): [[100, 100, 400, 400]], (2560, 1280): [[-10, 1200, 100, 100]]})
    boxes = find_faces(net, np.zeros((1280, 2560, 3), np.uint8))
    assert boxes == [Box(0, 0, 1200, 1200), Box(0, 1175, 115, 1280)]
    assert find_faces(FakeNet({}), np.zeros((40, 60, 3), np.uint8)) == []


def test_a_face_model_that_is_not_there_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"no such face model; {MODEL} is in the GitHub repository opencv/opencv_zoo"):
        open_detector(tmp_path / "yunet.onnx")
    (tmp_path / "yunet.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match="is no YuNet face model"):
        open_detector(tmp_path / "yunet.onnx")


def test_the_real_detector_finds_no_face_on_steel(weights_dir: Path) -> None:
    model = next(weights_dir.rglob(MODEL), None)
    if model is None:
        pytest.skip(f"face model: {MODEL} is not among the weights")
    from device_agent.frames.surface import draw

    assert open_detector(model)(draw(np.random.default_rng(0), "good", size=256)) == []


def test_the_day_of_expiry_counts_from_the_time_or_from_today_and_is_never_put_off(tmp_path: Path, raw: Path) -> None:
    text = (raw / "manifest.csv").read_text().splitlines()
    text[1] = text[1].rpartition(",")[0] + ","
    lines = [text[0] + ",expires", text[1] + ",", text[2] + ",", text[3] + ",2026-01-20", text[4] + ",2030-01-01"]
    (raw / "manifest.csv").write_text("\n".join([*lines, text[5] + ","]) + "\n")
    result = anonymize(raw, tmp_path / "out", keep_days=30, today=TODAY)
    days = [row["expires"] for row in rows_of(tmp_path / "out")]
    assert days == ["2026-03-31", "2026-02-01", "2026-01-20", "2026-02-03", "2026-02-04"]
    assert result.expires == ("2026-01-20", "2026-03-31")
    gone = purge(tmp_path / "out", date(2026, 2, 3), dry_run=True)
    assert gone.removed == ["pit/b.jpeg", "ok/c.png"]
    for days_kept in (-1, 10**6):
        with pytest.raises(BadInput, match="days to keep must be 0 to"):
            anonymize(raw, tmp_path / "o", keep_days=days_kept, today=TODAY)


def test_folders_without_a_manifest_get_one_for_the_dates_alone(tmp_path: Path, raw: Path) -> None:
    (raw / "manifest.csv").unlink()
    anonymize(raw, tmp_path / "plain")
    assert not (tmp_path / "plain" / "manifest.csv").exists()
    anonymize(raw, tmp_path / "dated", keep_days=1, today=TODAY)
    first = rows_of(tmp_path / "dated")[0]
    assert (first["class"], first["expires"]) == ("ok", "2026-03-02")


def test_a_damaged_picture_stops_everything_and_leaves_nothing(tmp_path: Path, raw: Path) -> None:
    victim = raw / "ok" / "c.png"
    whole = victim.read_bytes()
    for damaged in (whole[:300], b"", b"GIF89a" + bytes(50), PNG, JPEG, whole[:50] + b"\0" + whole[51:]):
        victim.write_bytes(damaged)
        with pytest.raises(BadInput, match=r"c\.png"):
            anonymize(raw, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_what_cannot_be_written_or_is_in_use_is_refused(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(BadInput, match="outside of"):
        anonymize(raw, raw / "clean")
    with pytest.raises(BadInput, match="is not empty"):
        anonymize(raw, raw)
    with pytest.raises(BadInput, match="no column 'name' to drop"):
        anonymize(raw, tmp_path / "out", drop=("name",))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        anonymize(raw, tmp_path / "file" / "out")


def test_the_command(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert lineside("data", "anonymize", str(raw), str(out), "--keep-days", "10", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 5
    assert lineside("data", "anonymize", str(raw), str(out)) == 1
    assert "is not empty" in capsys.readouterr().err
    assert lineside("data", "anonymize", str(raw), str(tmp_path / "o"), "--face-model", str(tmp_path / "no.onnx")) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "opencv_zoo" in shown.err and not (tmp_path / "o").exists()
    assert lineside("data", "anonymize", str(raw), str(tmp_path / "o")) == 0
    shown = capsys.readouterr()
    assert "faces were not looked for" in shown.out and "left behind: 1 ok/*.txt" in shown.out
    assert lineside("data", "anonymize", "--help") == 0
    assert "Example: lineside data anonymize" in capsys.readouterr().out
