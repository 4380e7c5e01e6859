"""How the three programs meet a person: commands loaded when asked for, errors in one line, exit codes, JSON."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import msgspec

from device_agent.contract.errors import LinesideError

_OWN = {"device_agent", "profiles", "converters", "toolkit", "fleet"}
_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF}
_EXTRAS = {"lineside": "toolkit", "lineside-agent": "agent-litert,camera", "lineside-fleet": "fleet"}


class LazyGroup(click.Group):
    """A group whose commands are named as "module:function" and imported when they are called or listed."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a user meets them."""
        return [*self._lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._lazy[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


def run(command: click.Command, arguments: list[str] | None = None) -> NoReturn:
    """Run a command line to its exit code: 0 good, 1 to 7 as in `errors`, 2 usage, 130 interrupted, 143 ended by a
    SIGTERM that the command does not handle itself.

    A LinesideError is printed as one line on stderr, and so is a package that an extra would have brought, or an output
    that cannot be written; any other exception is a bug and keeps its traceback.
    """
    with _terminable() as caught:
        sys.exit(_outcome(command, arguments, caught))


def _outcome(command: click.Command, arguments: list[str] | None, caught: list[int]) -> int:
    try:
        result = command.main(args=arguments, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LinesideError as error:
        click.echo(f"{command.name}: {error}", err=True)
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN or command.name not in _EXTRAS:
            raise
        click.echo(
            f'{command.name}: {missing} is not installed: pip install "lineside[{_EXTRAS[command.name]}]"', err=True
        )
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{command.name}: {'ended by SIGTERM' if caught else 'interrupted'}", err=True)
        return 143 if caught else 130
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail again at the exit
        click.echo(f"{command.name}: the output cannot be written: {(error.strerror or '').lower()}", err=True)
        return 1


@contextmanager
def _terminable() -> Iterator[list[int]]:
    """SIGTERM ends the block as Ctrl-C does, so that it cleans up; the signals that came."""
    caught: list[int] = []

    def end(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends at once
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield caught
    finally:
        signal.signal(signal.SIGTERM, before)


def print_json(result: Any) -> None:
    """A Struct, list or dict as indented JSON on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
