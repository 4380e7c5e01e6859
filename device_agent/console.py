"""How the three programs meet a person: commands loaded when asked for, errors in one line, exit codes, JSON."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click
import msgspec

from device_agent.contract.errors import LinesideError

_OWN = {"device_agent", "profiles", "converters", "toolkit", "fleet"}
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
    """Run a command line to its exit code: 0 good, 1 to 7 as in `errors`, 2 usage, 130 interrupted.

    A LinesideError is printed as one line on stderr, and so is a package that an extra would have brought; any other
    exception is a bug and keeps its traceback.
    """
    try:
        result = command.main(args=arguments, standalone_mode=False)
        sys.stdout.flush()
        sys.exit(result if isinstance(result, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LinesideError as error:
        click.echo(f"{command.name}: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OWN or command.name not in _EXTRAS:
            raise
        click.echo(
            f'{command.name}: {missing} is not installed: pip install "lineside[{_EXTRAS[command.name]}]"', err=True
        )
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{command.name}: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def print_json(result: Any) -> None:
    """A Struct, list or dict as indented JSON on stdout."""
    click.echo(msgspec.json.format(msgspec.json.encode(result), indent=2).decode())


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
