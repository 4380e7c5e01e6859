"""Profiles: nine boards, layers, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from device_agent.contract.errors import BadInput, NotFound, UnknownSchema
from profiles import registry
from profiles.schema import ARTIFACTS, Figure

BOARDS = [
    "coral-dev-board",
    "coral-usb",
    "generic-x86-64",
    "intel-n100",
    "jetson-nano",
    "jetson-orin-nano",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text)


def load(folder: Path, name: str) -> object:
    return registry.load(name, folder, project=folder / "none", user=folder / "none")


def test_nine_boards_are_built_in(tmp_path: Path) -> None:
    listed = registry.catalogue(project=tmp_path / "none", user=tmp_path / "none")
    assert [one.id for one in listed] == BOARDS


@pytest.mark.parametrize("board", BOARDS)
def test_each_board_can_be_packed_for(board: str) -> None:
    profile = registry.load(board)
    assert profile.artifacts and set(profile.artifacts) <= set(ARTIFACTS)
    assert len(set(profile.artifacts)) == len(profile.artifacts)
    assert profile.run.latency_p50_ms and profile.run.rss_mib and profile.run.size_mib
    cores = profile.hardware.cores
    assert cores is None or (profile.threads <= cores.value and max(profile.affinity or [0]) < cores.value)
    assert profile.affinity is None or len(profile.affinity) == profile.threads


@pytest.mark.parametrize("board", BOARDS)
def test_no_figure_is_without_a_source(board: str) -> None:
    profile = registry.load(board)
    figures = [*msgspec.structs.asdict(profile.hardware).values(), *msgspec.structs.asdict(profile.budgets).values()]
    assert all(figure is None or (isinstance(figure, Figure) and len(figure.source) > 7) for figure in figures)
    assert not any(figure.kind == "measured" for figure in figures if figure), "no board was at hand to measure on"
    assert all(one.source for one in profile.latency)


def test_only_the_generic_machine_gives_verdicts() -> None:
    assert [board for board in BOARDS if registry.load(board).this_machine] == ["generic-x86-64"]


@pytest.mark.parametrize("board", ["coral-dev-board", "coral-usb"])
def test_coral_says_that_the_edge_tpu_is_not_driven(board: str) -> None:
    profile = registry.load(board)
    assert profile.artifacts == ["litert-int8"]
    assert "not driven by lineside yet" in profile.accelerator


def test_what_is_unknown_stays_unknown() -> None:
    assert registry.load("raspberry-pi-5").hardware.idle_w is None
    assert registry.load("generic-x86-64").hardware.cores is None


def test_extends_fills_in(folder: Path) -> None:
    write(
        folder, "press", 'id = "press"\nextends = "raspberry-pi-4"\nname = "Press 4"\nthreads = 2\naffinity = [2, 3]\n'
    )
    mine, pi = registry.load("press", folder), registry.load("raspberry-pi-4")
    assert (mine.id, mine.name, mine.threads, mine.affinity) == ("press", "Press 4", 2, [2, 3])
    assert (mine.artifacts, mine.budgets, mine.hardware) == (pi.artifacts, pi.budgets, pi.hardware)


def test_a_figure_is_replaced_as_a_whole(folder: Path) -> None:
    write(
        folder,
        "press",
        'id = "press"\nextends = "raspberry-pi-4"\n[budgets]\np50_ms = {value=5, kind="estimate", source="a try"}\n',
    )
    budgets = registry.load("press", folder).budgets
    assert budgets.p50_ms == Figure(value=5, kind="estimate", source="a try")
    assert budgets.rss_mib == registry.load("raspberry-pi-4").budgets.rss_mib


def test_layers_project_user_and_named_folder(tmp_path: Path) -> None:
    project, user, extra = tmp_path / "project", tmp_path / "user", tmp_path / "extra"
    extending = 'id = "raspberry-pi-4"\nextends = "raspberry-pi-4"\n'

    def threads() -> int:
        return registry.load("raspberry-pi-4", extra, project=project, user=user).threads

    extra.mkdir()
    assert threads() == 3
    write(project, "raspberry-pi-4", extending + "threads = 1\n")
    assert threads() == 1
    write(user, "raspberry-pi-4", extending + "threads = 2\n")
    assert threads() == 2
    write(extra, "raspberry-pi-4", extending + "threads = 4\n")
    assert threads() == 4


ONE = 'id = "x"\nextends = "raspberry-pi-4"\n'
WRONG = [
    (ONE + "thread = 3\n", BadInput, "x.toml:3: unknown key thread, did you mean 'threads'?"),
    (ONE + "threads = 0\n", BadInput, "x.toml:3: threads: expected int >= 1, got 0"),
    (
        ONE + "[budgets]\np50_ms = { value = '1GB', kind = 'estimate', source = 'abc' }\n",
        BadInput,
        "x.toml:4: budgets.p50_ms.value: expected float, got '1GB'",
    ),
    (
        ONE + "[budgets]\np50_ms = { value = 1, kind = 'guess', source = 'abc' }\n",
        BadInput,
        "x.toml:4: budgets.p50_ms.kind: must be one of measured, vendor, literature, estimate, got 'guess'",
    ),
    (
        ONE + "[hardware]\nclok_mhz = { value = 1 }\n",
        BadInput,
        "x.toml:4: unknown key hardware.clok_mhz, did you mean 'clock_mhz'?",
    ),
    (
        ONE + "[runtimes.litert]\npackge = 'x'\n",
        BadInput,
        "x.toml:4: unknown key runtimes.litert.packge, did you mean 'package'?",
    ),
    (
        ONE + "artifacts = ['openvino-int8']\n",
        BadInput,
        "x.toml:3: artifacts need [runtimes.openvino], which is not described",
    ),
    ('id = "y"\nextends = "raspberry-pi-4"\n', BadInput, "x.toml:1: id must be the file's name 'x', got 'y'"),
    (
        'id = "x"\nextends = "raspbery-pi-4"\n',
        NotFound,
        "x.toml:2: extends a profile that is not there: 'raspbery-pi-4', did you mean 'raspberry-pi-4'?",
    ),
    ('id = "x"\nextends = "x"\n', NotFound, "x.toml:2: extends 'x' of a folder below, where there is none"),
    ("id = \n", BadInput, "x.toml: not TOML: invalid value (at line 1, column 6)"),
    ('schema = "2.0"\n' + ONE, UnknownSchema, "x.toml: schema 2.0 cannot be read, this version reads 1.x"),
    ('id = "x"\n', BadInput, "x.toml: object missing required field name"),
]


@pytest.mark.parametrize(("text", "error", "sentence"), WRONG, ids=[sentence[8:40] for _, _, sentence in WRONG])
def test_an_error_names_file_line_and_key(folder: Path, text: str, error: type[Exception], sentence: str) -> None:
    write(folder, "x", text)
    with pytest.raises(error) as caught:
        load(folder, "x")
    assert sentence in str(caught.value)
    assert str(folder / "x.toml") in str(caught.value)


def test_a_circle_is_refused(folder: Path) -> None:
    write(folder, "one", 'id = "one"\nextends = "two"\n')
    write(folder, "two", 'id = "two"\nextends = "one"\n')
    with pytest.raises(BadInput, match="extends itself by way of one -> two"):
        load(folder, "one")


@pytest.mark.parametrize("name", ["raspberry-pi4", "../raspberry-pi-4", "", "/etc/passwd"])
def test_an_unknown_id_lists_the_known(name: str) -> None:
    with pytest.raises(NotFound, match="known are coral-dev-board"):
        registry.load(name)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder of profiles"):
        registry.load("raspberry-pi-4", tmp_path / "none")
