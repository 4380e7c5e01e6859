"""Writes docs/cli.md, the command reference, from the three programs themselves.

python docs/generate_cli.py            write it anew
python docs/generate_cli.py --check    exit 1 if it is not current
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from device_agent.cli import cli as agent
from fleet.cli import cli as fleet
from toolkit.cli import cli as workstation

PAGE = Path(__file__).with_name("cli.md")
PROGRAMS = {
    "lineside": (workstation, "the workstation"),
    "lineside-agent": (agent, "the device"),
    "lineside-fleet": (fleet, "the monitor"),
}
EXIT_CODES = """\
| code | meaning |
| --- | --- |
| 0 | good |
| 1 | a file, folder, option or message is not what it has to be |
| 2 | wrong usage |
| 3 | a budget of the profile was missed |
| 4 | an artifact does not compute what was trained, or a self-test failed |
| 5 | a broker, camera or device does not answer |
| 6 | a digest or signature does not fit |
| 7 | drift was found by a check that was asked to fail on it |
| 130 | interrupted |
| 143 | ended by SIGTERM |
"""


def walk(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Full name and help text of a command and of all below it, in the order of its group."""
    width = {"terminal_width": 100, "max_content_width": 100}
    ctx = click.Context(command, info_name=name, parent=parent, **{**command.context_settings, **width})
    yield ctx.command_path, command.get_help(ctx)
    if isinstance(command, click.Group):
        for child in command.list_commands(ctx):
            found = command.get_command(ctx, child)
            if found is not None and not found.hidden:
                yield from walk(child, found, ctx)


def render() -> str:
    """The whole page."""
    parts = ["# Commands", "Written by `make docs` from the programs' own `--help`; a test says whether it is current."]
    parts += ["Exit codes of all three programs:", EXIT_CODES.rstrip()]
    for program, (group, place) in PROGRAMS.items():
        for path, text in walk(program, group):
            title = f"## {path}: {place}" if path == program else f"### {path}"
            parts.append(f"{title}\n\n```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write, or compare with --check."""
    page = render()
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text() == page:
            return 0
        sys.stderr.write("docs/cli.md is not what the programs say: run make docs\n")
        return 1
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
