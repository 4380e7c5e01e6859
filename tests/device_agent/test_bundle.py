"""Bundles: the same bytes for the same inputs, and nothing that was altered is ever parsed."""

from __future__ import annotations

import hashlib
import io
import os
import time
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent import unpacking
from device_agent.contract import bundle
from device_agent.contract.errors import BadInput, LinesideError, NotFound, NotWritable, TrustFailed, UnknownSchema
from device_agent.contract.manifest import (
    ArtifactManifest,
    Baseline,
    BundleManifest,
    Golden,
    InputSpec,
    Label,
    write_manifest,
)

MODEL, IMAGES = "fake-fp32/model.json", "golden.npy"
SPEC = InputSpec(height=8, width=8, channels=1, colour_order="grey")


def npy(array: np.ndarray) -> bytes:
    handle = io.BytesIO()
    np.save(handle, array)
    return handle.getvalue()


FILES = {
    MODEL: b'{"classes": 2}',
    IMAGES: npy(np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1)),
    "labels.txt": b"good\nscratch\n",
}


def manifest_of(files: dict[str, bytes], **changes: object) -> BundleManifest:
    artifact = ArtifactManifest(
        runtime="fake",
        precision="fp32",
        files=[bundle.entry(MODEL, files[MODEL])],
        input=SPEC,
        temperature=1.5,
        golden=Golden([[1.0, -1.0], [0.5, 2.0]], 1e-4),
        baseline=Baseline.of(np.eye(2, dtype=int)[:, :, None] * np.arange(24)),
    )
    manifest = BundleManifest(
        name="steel",
        profile="generic-x86-64",
        labels=[Label("good", "good"), Label("scratch", "defect")],
        artifacts=[artifact],
        golden_images=bundle.entry(IMAGES, files[IMAGES]),
        other_files=[bundle.entry("labels.txt", files["labels.txt"])],
    )
    return msgspec.structs.replace(manifest, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "steel.lineside"
    bundle.write_bundle(target, manifest_of(FILES), FILES)
    return target


def reseal(content: bytes) -> bytes:
    """What a forger would do: alter the body, and make the seal fit again."""
    body = content[: -len(b"sha256:") - 64]
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def forged(
    path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_STORED
) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            info.compress_type = compression
            info.external_attr = info.external_attr or 0o100644 << 16
            archive.writestr(info, content)
        archive.comment = bytes(71)
    path.write_bytes(reseal(buffer.getvalue()))
    return path


def test_what_goes_in_comes_out(path: Path) -> None:
    read = bundle.read_bundle(path)
    assert read.manifest == manifest_of(FILES)
    assert {name: content for name, content in read.files.items() if name != "manifest.json"} == FILES
    assert read.golden.shape == (2, 8, 8, 1) and read.golden.ravel().tolist() == list(range(128))
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_any_zip_tool_opens_it(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == sorted(["manifest.json", *FILES])
        assert archive.read(MODEL) == FILES[MODEL]


def test_the_same_bytes_at_any_time_umask_zone_and_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = path.read_bytes()
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    umask = os.umask(0o077)
    try:
        again = path.with_name("again.lineside")
        bundle.write_bundle(again, manifest_of(FILES), dict(reversed(FILES.items())))
    finally:
        os.umask(umask)
        monkeypatch.undo()
        time.tzset()
    assert again.read_bytes() == first


def test_other_inputs_give_other_bytes(path: Path) -> None:
    other = path.with_name("other.lineside")
    bundle.write_bundle(other, manifest_of(FILES, profile="raspberry-pi-4"), FILES)
    assert other.read_bytes() != path.read_bytes()


def test_the_container_does_not_change_between_versions() -> None:
    sealed = hashlib.sha256(bundle._seal({"b/c": b"2", "a": b"1"})).hexdigest()
    assert sealed == "c297ce120cf5aee1ab7748a2ef2b7740c35ebb2e246bb8438e052db75da1329b"


def test_every_flipped_bit_is_refused_before_any_parser(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(path.read_bytes())
    monkeypatch.setattr(zipfile, "ZipFile", None)
    monkeypatch.setattr(bundle, "read_manifest", None)
    for position in range(len(content)):
        for bit in range(8):
            content[position] ^= 1 << bit
            with pytest.raises(TrustFailed):
                bundle._verified(bytes(content), "b")
            content[position] ^= 1 << bit


def test_the_exit_code_of_damage_is_6(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(TrustFailed, match=r"steel\.lineside: damaged, or not a bundle") as caught:
        bundle.read_bundle(path)
    assert caught.value.exit_code == 6


@pytest.mark.parametrize("keep", [0, 1, 70, 71, 72, 500, -1])
def test_a_cut_off_file_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TrustFailed):
        bundle.read_bundle(path)


def test_something_appended_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TrustFailed):
        bundle.read_bundle(path)


def test_a_sealed_forgery_of_one_bit_in_a_file_is_refused(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b'"classes"') + 3
    altered = reseal(content[:at] + b"X" + content[at + 1 :])
    path.write_bytes(altered)
    with pytest.raises(TrustFailed):
        bundle.read_bundle(path)


def forgeries() -> dict[str, tuple[list[tuple[str | zipfile.ZipInfo, bytes]], int]]:
    text = write_manifest(manifest_of(FILES))
    good = [("manifest.json", text), *FILES.items()]
    link = zipfile.ZipInfo(MODEL)
    link.external_attr = 0o120777 << 16
    swapped = {**FILES, MODEL: b'{"classes": 3}'}
    return {
        "surplus": ([*good, ("surplus", b"")], zipfile.ZIP_STORED),
        "missing": (good[:-1], zipfile.ZIP_STORED),
        "compressed": (good, zipfile.ZIP_DEFLATED),
        "link": ([("manifest.json", text), (link, b"/etc/passwd"), *list(FILES.items())[1:]], zipfile.ZIP_STORED),
        "other content": ([("manifest.json", text), *swapped.items()], zipfile.ZIP_STORED),
        "absolute": ([*good, ("/etc/passwd", b"")], zipfile.ZIP_STORED),
        "upwards": ([*good, ("../x", b"")], zipfile.ZIP_STORED),
    }


@pytest.mark.parametrize("kind", list(forgeries()))
def test_a_sealed_forgery_is_refused(path: Path, kind: str) -> None:
    entries, compression = forgeries()[kind]
    with pytest.raises(TrustFailed):
        bundle.read_bundle(forged(path, entries, compression))


def test_a_name_twice_is_refused(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        forged(path, [("manifest.json", write_manifest(manifest_of(FILES))), *FILES.items(), (MODEL, b"x")])
    with pytest.raises(TrustFailed, match="same name"):
        bundle.read_bundle(path)


def test_a_sealed_bundle_without_manifest_or_without_zip(path: Path) -> None:
    with pytest.raises(LinesideError, match=r"manifest\.json"):
        bundle.read_bundle(forged(path, list(FILES.items())))
    path.write_bytes(reseal(b"no zip" + bytes(71)))
    with pytest.raises(TrustFailed, match="not a bundle"):
        bundle.read_bundle(path)


def test_a_newer_major_schema_names_both(path: Path) -> None:
    text = write_manifest(manifest_of(FILES)).replace(b'"schema": "1.0"', b'"schema": "2.0"')
    forged(path, [("manifest.json", text), *FILES.items()])
    with pytest.raises(UnknownSchema, match=r"schema 2\.0 cannot be read, this version reads 1\.x"):
        bundle.read_bundle(path)


def test_a_newer_minor_schema_is_read_and_kept(path: Path, tmp_path: Path) -> None:
    text = write_manifest(manifest_of(FILES)).replace(b'"schema": "1.0"', b'"schema": "1.9", "fresh": 7')
    forged(path, [("manifest.json", text), *FILES.items()])
    assert bundle.read_bundle(path).manifest.schema == "1.9"
    assert (unpacking.unpack(bundle.read_bundle(path), tmp_path / "store") / "manifest.json").read_bytes() == text


@pytest.mark.parametrize(
    "images",
    [
        npy(np.zeros((2, 8, 8, 1), np.float32)),
        npy(np.zeros((3, 8, 8, 1), np.uint8)),
        npy(np.zeros((2, 8, 8), np.uint8)),
        npy(np.zeros((2, 8, 8, 1), np.uint8))[:-1],
        npy(np.zeros((2, 8, 8, 1), np.uint8)).replace(b"(2, 8, 8, 1)", b"(2, 8, 8, 9999)"),
        b"no array",
    ],
)
def test_golden_images_that_do_not_fit(path: Path, images: bytes) -> None:
    files = {**FILES, IMAGES: images}
    with pytest.raises(BadInput, match=r"golden\.npy"):
        bundle.write_bundle(path.with_name("wrong.lineside"), manifest_of(files), files)
    assert not path.with_name("wrong.lineside").exists()


def test_only_the_files_of_the_manifest_are_written(path: Path) -> None:
    target = path.with_name("other.lineside")
    with pytest.raises(BadInput, match="surplus is not named"):
        bundle.write_bundle(target, manifest_of(FILES), {**FILES, "surplus": b""})
    with pytest.raises(BadInput, match="is not the file that the manifest describes"):
        bundle.write_bundle(target, manifest_of(FILES), {**FILES, MODEL: b"{}"})
    twice = manifest_of(FILES, other_files=[bundle.entry(MODEL, FILES[MODEL])])
    with pytest.raises(BadInput):
        bundle.write_bundle(target, twice, FILES)
    assert not target.exists()


def test_unpack_is_by_content_and_repairs(path: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    folder = unpacking.unpack(bundle.read_bundle(path), store)
    assert folder == store / bundle.read_bundle(path).sha256[:16]
    assert (folder / MODEL).read_bytes() == FILES[MODEL]
    before = (folder / MODEL).stat().st_mtime_ns
    assert unpacking.unpack(bundle.read_bundle(path), store) == folder and (folder / MODEL).stat().st_mtime_ns == before
    (folder / MODEL).write_bytes(b"rotten")
    assert (unpacking.unpack(bundle.read_bundle(path), store) / MODEL).read_bytes() == FILES[MODEL]
    assert [entry.name for entry in store.iterdir()] == [folder.name]


def test_what_others_and_kills_left_beside_is_swept(path: Path, tmp_path: Path) -> None:
    folder = unpacking.unpack(bundle.read_bundle(path), tmp_path / "store")
    names = ("0" * 16, f".{'1' * 16}.0badcafe.part", f".{'2' * 16}.0badcafe.part.old")
    for name in (*names, "notes"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "file").write_bytes(b"")
    unpacking.sweep(folder)
    assert sorted(one.name for one in folder.parent.iterdir()) == sorted([folder.name, "notes"])
    assert (folder / MODEL).exists()


def test_a_file_that_is_also_a_folder_is_refused_before_the_disk_is(path: Path) -> None:
    for name in (f"{MODEL}/x", "labels.txt/deep/x", "manifest.json/x"):
        files = {**FILES, name: b""}
        surplus = [bundle.entry("labels.txt", FILES["labels.txt"]), bundle.entry(name, b"")]
        with pytest.raises(BadInput, match="is a file and the folder of another file"):
            bundle.write_bundle(path.with_name("odd.lineside"), manifest_of(files, other_files=surplus), files)


def test_nothing_of_a_damaged_bundle_is_unpacked(path: Path, tmp_path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(TrustFailed):
        unpacking.unpack(bundle.read_bundle(path), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NotWritable, match="no space left"):
        bundle.write_bundle(tmp_path / "full.lineside", manifest_of(FILES), FILES)
    assert not list(tmp_path.glob("*full*"))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        bundle.read_bundle(tmp_path / "none.lineside")
    with pytest.raises(NotFound):
        bundle.read_bundle(tmp_path)
