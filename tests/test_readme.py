"""The README is true: its blocks run, in order, and every command of the three programs is named in it.

A block is run when it is fenced as ```bash, or as ```console, where a line after "$ " is a command and the rest
is output. All run in one shell and one empty folder, so that a later block finds what an earlier one made, background
jobs included. Ports 1883 and 8080 become free ones. A comment before a block says what is special about it:

    <!-- test: skip: reason -->    not run (needs a camera, a board, another machine)
    <!-- test: mosquitto -->       run where Mosquitto is found
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PROGRAMS = {"lineside": "toolkit.cli", "lineside-agent": "device_agent.cli", "lineside-fleet": "fleet.cli"}
FENCE = re.compile(
    r"(?:<!-- test: (?P<note>[^\n]*?) -->\n+)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
TIMEOUT_S = 1200


class Block(NamedTuple):
    """Shell commands of one fenced block, the line on which it begins, and the note before it."""

    line: int
    commands: str
    note: str


def blocks(text: str) -> list[Block]:
    """Every block that can be run, in the order of the page."""
    found = []
    for match in FENCE.finditer(text):
        if match["kind"] in ("bash", "console"):
            line = text.count("\n", 0, match.start("text")) + 1
            found.append(Block(line, shell(match["kind"], match["text"]), match["note"] or ""))
    return found


def shell(kind: str, text: str) -> str:
    """Commands of a block: a bash block as it is, of a console block the lines after "$ " and their continuations."""
    if kind == "bash":
        return text
    commands, goes_on = [], False
    for line in text.splitlines():
        if goes_on or line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(commands) + "\n"


def commands_of(name: str, command: click.Command) -> Iterator[str]:
    """Full names of the commands below a group that do something themselves."""
    if isinstance(command, click.Group):
        ctx = click.Context(command, info_name=name)
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None and not found.hidden:
                yield from commands_of(f"{name} {child}", found)
    else:
        yield name


def test_a_console_block_gives_its_commands_alone():
    text = "text\n<!-- test: skip: a camera -->\n```console\n$ a \\\n    --b\nout\n$ c\n```\n"
    text += "```text\nx\n```\n```bash\nd\n```\n"
    assert blocks(text) == [Block(4, "a \\\n    --b\nc\n", "skip: a camera"), Block(13, "d\n", "")]


def test_every_note_is_one_that_is_known():
    for block in blocks(README.read_text()):
        assert block.note in ("", "mosquitto") or re.fullmatch(r"skip: .{5,}", block.note), block


def test_most_blocks_are_run():
    notes = [block.note for block in blocks(README.read_text())]
    assert len(notes) >= 5
    assert sum(note.startswith("skip") for note in notes) < len(notes) / 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_named(program):
    text = README.read_text()
    group = importlib.import_module(PROGRAMS[program]).cli
    names = list(commands_of(program, group))
    assert len(names) >= 3
    assert [name for name in names if not re.search(rf"{re.escape(name)}(?![\w-])", text)] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_command_is_named_that_does_not_exist(program):
    ctx = click.Context(importlib.import_module(PROGRAMS[program]).cli)
    code = "\n".join([block.commands for block in blocks(README.read_text())])
    code += "\n".join(re.findall(r"`([^`\n]+)`", README.read_text()))
    used = set(re.findall(rf"(?:^|\s|\|){re.escape(program)} ([a-z][a-z-]*)", code, re.MULTILINE))
    assert used <= set(ctx.command.list_commands(ctx))


def runnable(text: str, has_mosquitto: bool) -> list[Block]:
    """Blocks that this machine can run."""
    return [
        block
        for block in blocks(text)
        if not block.note.startswith("skip") and (has_mosquitto or block.note != "mosquitto")
    ]


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_the_blocks_run_in_order(tmp_path, request):
    broker = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    script = ["set -euo pipefail"]
    for block in runnable(README.read_text(), broker is not None):
        script += [f'echo "=== README.md line {block.line}" >&2', block.commands]
    text = "\n".join(script)
    for port in ("1883", "8080"):
        text = text.replace(port, str(unused_port()))
    path = [str(Path(sys.executable).parent), os.environ["PATH"]] + ([str(Path(broker).parent)] if broker else [])
    environment = {**os.environ, "PATH": ":".join(path), "HOME": str(tmp_path)}
    folder = tmp_path / "work"
    folder.mkdir()
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            ["bash", "-c", text], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            end_group(process)
        log.seek(0)
        tail = log.read()[-6000:]
    assert code == 0, f"README.md: ended with {code}\n{tail}"


def unused_port() -> int:
    """A TCP port that nothing listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever the blocks left running in the background."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
