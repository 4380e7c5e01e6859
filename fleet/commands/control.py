"""`lineside-fleet configure` and `command`: what is asked of a running device, signed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from device_agent.console import json_option, print_json
from device_agent.contract.errors import BadInput, Unreachable
from fleet.commands.options import Finite

if TYPE_CHECKING:
    from device_agent.contract.control import Response

Made = TypeVar("Made", bound=Callable[..., Any])


def _asking(command: Made) -> Made:
    """Options of both commands."""
    folder = click.Path(path_type=Path)
    for option in (
        json_option,
        click.option("--timeout", "timeout_s", type=Finite(0.1, 600), default=30.0, show_default=True,
                     metavar="SECONDS", help="To wait for the device's answer."),
        click.option("--keys", type=folder, default=Path("lineside-keys"), show_default=True,
                     help="Folder of the fleet's keys; with mqtts:// the operator's certificate comes from there too."),
        click.option("--broker", required=True, envvar="LINESIDE_BROKER", metavar="URL", help="mqtt:// or mqtts://"),
        click.argument("device"),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("configure")
@_asking
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="interval (s) or on_drift; again for more.")
@click.option("--unset", multiple=True, metavar="NAME", help="Leave it to the device's own configuration again.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="VERSION", help="That the device says it holds.")
def configure(
    device: str,
    broker: str,
    keys: Path,
    timeout_s: float,
    as_json: bool,
    changes: tuple[str, ...],
    unset: tuple[str, ...],
    after: int,
) -> None:
    """Change the configuration of a running device. It stays with the broker, so a device that is off gets it later.

    Exit code 5 when no answer came, 1 when the device refuses. It refuses a version that is not over the one it holds,
    as when somebody with another folder of keys configured it: --after names that one.

    \b
    Example: lineside-fleet configure press-1 --set interval=30 --broker mqtts://broker.example
    """
    from fleet.control import Asked, NotTaken, configuration, last_asked, operator_broker, remember, send

    if not changes and not unset:
        raise click.UsageError("name what is to change: --set interval=30")
    change: dict[str, Any] = dict.fromkeys(unset)
    for text in changes:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--set {text}: must read like interval=30")
        change[name] = _value(value)
    address, before = operator_broker(broker, keys), last_asked(keys, device)
    letter, asked = configuration(keys, device, change, time.time(), after=after)
    undone = Asked(version=asked.version, settings=before.settings)
    remember(keys, device, asked)  # first: what an interrupted command has sent is built upon by the next one
    try:
        response = send(address, device, letter, timeout_s)
    except NotTaken:
        remember(keys, device, undone)
        raise
    if response is not None and not response.ok:
        remember(keys, device, undone)
    _tell(device, response, as_json, f"version {asked.version} waits at the broker")


@click.command("command")
@_asking
@click.argument("name")
@click.argument("arguments", default="")
def command(device: str, name: str, arguments: str, broker: str, keys: Path, timeout_s: float, as_json: bool) -> None:
    """Give a running device a command: ping, status, selftest, bench or reset-breaker.

    Exit code 5 when no answer came, 1 when the device refuses.

    \b
    Example: lineside-fleet command press-1 selftest --broker mqtts://broker.example
    """
    from fleet.control import command as make
    from fleet.control import operator_broker, send

    letter = make(keys, device, name, arguments, time.time())
    _tell(device, send(operator_broker(broker, keys), device, letter, timeout_s), as_json, "a command holds for 30 s")


def _value(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _tell(device: str, response: Response | None, as_json: bool, meanwhile: str) -> None:
    from fleet.wording import printable

    if as_json:
        print_json({"device": device, "ok": response and response.ok, "text": response and response.text})
    if response is None:
        raise Unreachable(f"{device}: no answer in time; {meanwhile}")
    if not response.ok:
        raise BadInput(f"{device}: {printable(response.text)}")
    if not as_json:
        click.echo(printable(response.text))
