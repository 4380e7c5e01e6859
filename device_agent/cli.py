"""The `lineside-agent` program: what runs beside the camera."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from device_agent.console import json_option, print_json
from device_agent.console import run as run_command
from device_agent.contract.errors import BadInput, SelfTestFailed

if TYPE_CHECKING:
    from device_agent.config import Camera, Settings
    from device_agent.contract.broker import Broker
    from device_agent.contract.credentials import Credentials
    from device_agent.document import Document
    from device_agent.outputs.settings import LineSettings

Command = TypeVar("Command", bound=Callable[..., Any])
_SOURCE = (
    "folder:DIR, camera:0, video:FILE, rtsp://..., http://... or synthetic, with options as in folder:DIR:once=1; also "
    "from LINESIDE_SOURCE, which hides a password from other users."
)
_BROKER = (
    "mqtt:// or mqtts://[user:password@]host[:port]; also from LINESIDE_BROKER, which hides the password from other "
    "users. Without it reports stay here."
)
_ORIGINS = {"COMMANDLINE": "option", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file"}
_CREDENTIALS = {
    "key": "Key of --cert, PEM, for this user's eyes only.",
    "cert": "Certificate of this device, PEM, for mqtts://.",
    "ca": "Whom to trust with mqtts://, PEM; default: whom the system trusts.",
}


class _Number(click.FloatRange):
    """A number from `min` to `max`; nan, which no comparison refuses, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or a usage error."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number


@click.group("lineside-agent", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lineside")
def cli() -> None:
    """Classify what a camera sees, and report to the fleet.

    \b
    lineside-agent check --bundle steel.lineside --source camera:0 --broker mqtt://10.0.0.5
    lineside-agent run --bundle steel.lineside --source camera:0 --broker mqtt://10.0.0.5 --device press-1
    """


def _take_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> Document | None:
    """Fields of the file stand in for options that are not given; the tables come as they are."""
    if path is None:
        return None
    from device_agent.document import read_config

    document = read_config(path)
    names = {parameter.name for parameter in context.command.params}
    context.default_map = {name: value for name, value in document.options().items() if name in names}
    return document


def _bundle(command: Command) -> Command:
    path = click.Path(path_type=Path)
    command = click.option("--bundle", required=True, type=path, help="File written by `lineside pack`.")(command)
    command = click.option(
        "--config", type=path, is_eager=True, callback=_take_config, envvar="LINESIDE_CONFIG",
        help="TOML with any of these options by name, and tables; the command line counts for more.",
    )(command)  # fmt: skip
    command = click.option("--state", type=path, default=Path("lineside-state"), show_default=True, help="Folder.")(
        command
    )
    return click.option("--artifact", help="Try this artifact first, such as litert-int8.")(command)


def _line(command: Command) -> Command:
    command = click.option("--source", required=True, envvar="LINESIDE_SOURCE", help=_SOURCE)(command)
    file = click.Path(path_type=Path)
    for name, text in _CREDENTIALS.items():
        command = click.option(f"--{name}", type=file, envvar=f"LINESIDE_{name.upper()}", help=text)(command)
    asks = "signing.pub of the fleet's keys: configuration and commands that it signed are obeyed."
    command = click.option("--fleet-key", type=file, envvar="LINESIDE_FLEET_KEY", help=asks)(command)
    command = click.option("--broker", envvar="LINESIDE_BROKER", help=_BROKER)(command)
    command = click.option("--fps", type=_Number(0.01, 1000), help="Frames per second.")(command)
    roi = "Part of the frame that is looked at: LEFT,TOP,WIDTH,HEIGHT in shares of it, 0 to 1."
    command = click.option("--roi", help=roi)(command)
    trigger = "One frame a part: gpio:PIN, mqtt://HOST/TOPIC, every:SECONDS or sensor; without, every frame."
    command = click.option("--trigger", help=trigger)(command)
    return click.option("--device", required=True, help="Name of this device: 3 to 32 of a-z, 0-9 and '-'.")(command)


def _running(command: Command) -> Command:
    log = click.Choice(["plain", "json"])
    command = click.option("--log", type=log, default="plain", show_default=True, help="Lines on stderr.")(command)
    coding = click.Choice(["msgpack", "json"])
    command = click.option("--encoding", type=coding, default="msgpack", show_default=True)(command)
    ways = click.Choice(["-", "none"])
    command = click.option("--verdicts", type=ways, default="none", show_default=True, help="- is stdout.")(command)
    command = click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")(command)
    often = _Number(0.1, 3600)
    return click.option("--interval", type=often, default=60.0, show_default=True, help="Seconds a report.")(command)


@cli.command()
@_bundle
@_line
@_running
def run(**options: Any) -> int:
    """Serve until a signal, the end of the source, or --frames.

    A broker that is absent stops nothing: reports wait in the spool of --state. SIGTERM ends with exit code 0, Ctrl-C
    with 130; both put the open interval into the spool first. Exit code 1: reports could not be stored; 4: no artifact
    of the bundle gives its golden answers.

    \b
    Example: lineside-agent run --bundle steel.lineside --source synthetic:fps=10 --device press-1 --frames 50
    """
    from device_agent.agent import run_agent

    with _signals() as caught:
        run_agent(_settings(options), lambda: bool(caught))
    return 130 if signal.SIGINT in caught else 0


@cli.command("config")
@_bundle
@_line
@_running
@json_option
@click.pass_context
def show_config(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Check a configuration, and show what a run would take and where each value comes from. Nothing is opened.

    \b
    Example: lineside-agent config --config agent.toml
    """
    broker = _settings(options).cameras[0].broker
    document, shown = options.pop("config"), []
    for name, value in {**options, "broker": broker and str(broker)}.items():
        origin = context.get_parameter_source(name)
        shown.append((name, value, _ORIGINS.get(origin.name if origin else "", "default")))
    shown += [(name, value, "file") for name, value in (document.fields() if document else ())]
    rows = [{"name": name, "value": _plain(value), "from": origin} for name, value, origin in shown]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']:20} {'-' if row['value'] is None else row['value']}  ({row['from']})")


def _plain(value: Any) -> Any:
    """A value as it may be shown: no password of an address."""
    if isinstance(value, str) and "://" in value:
        from device_agent.frames.camera import without_password

        return without_password(value).partition("?")[0]  # what follows is as often a secret as not
    return value if isinstance(value, bool | int | float | list | None) else str(value)


@cli.command()
@_bundle
@_line
@json_option
def check(as_json: bool, **options: Any) -> int:
    """Look at bundle, runtimes, source, broker, state folder and clock; one line each with what would help.

    Exit code 5 when the broker cannot be reached, else that of the first line that is not good.

    \b
    Example: lineside-agent check --bundle steel.lineside --source camera:0 --broker mqtt://10.0.0.5 --device press-1
    """
    from device_agent.check import check as look

    findings = []
    for finding in look(_settings(options)):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'ok ' if finding.ok else 'BAD'} {finding.part}: {finding.text}")
            if finding.fix:
                click.echo(f"      {finding.fix}")
    if as_json:
        print_json(findings)
    codes = [finding.exit_code for finding in findings if finding.exit_code]
    return 5 if 5 in codes and any(one.part == "broker" and not one.ok for one in findings) else next(iter(codes), 0)


@cli.command()
@_bundle
@json_option
def selftest(as_json: bool, **options: Any) -> None:
    """Compare the logits of every artifact with the bundle's golden ones; exit code 4 if any is off.

    \b
    Example: lineside-agent selftest --bundle steel.lineside
    """
    from device_agent.agent import open_model
    from device_agent.check import answers

    found = answers(open_model(_settings(_alone(options))))
    if as_json:
        print_json(found)
    for one in [] if as_json else found:
        figures = f"worst {one.result.worst:.3g}, allowed {one.result.tolerance:.3g}" if one.result else one.error
        click.echo(f"{'ok ' if one.ok else 'BAD'} {one.artifact}: {figures}")
    wrong = [one.artifact for one in found if not one.ok]
    if wrong:
        raise SelfTestFailed(f"{', '.join(wrong)} cannot be trusted on this machine")


@cli.command()
@_bundle
@click.option("--quick", is_flag=True, help="Measure each for 1 s instead of 10.")
@json_option
def bench(quick: bool, as_json: bool, **options: Any) -> None:
    """Measure every artifact of the bundle on this machine, each in a process of its own.

    \b
    Example: lineside-agent bench --bundle steel.lineside --quick
    """
    from device_agent.timing import bench_bundle

    reports = bench_bundle(_settings(_alone(options)), quick=quick)
    if as_json:
        print_json(reports)
        return
    for one in reports:
        memory = f"{one.rss_peak_mib:.0f} MiB" if one.rss_peak_mib else "memory unknown"
        note = "" if one.valid else f"  (disturbed: {'; '.join(one.flags)})"
        click.echo(f"{one.runtime}-{one.precision}: p50 {one.p50_ms:.3f} ms, p99 {one.p99_ms:.3f} ms, {memory}{note}")


@cli.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="TOML of the agent.")
@click.option("--user", help="Who runs it; without, systemd makes a user for it.")
@click.option("--program", type=click.Path(path_type=Path), help="lineside-agent; default: this one.")
@click.option(
    "--device", "devices", multiple=True, default=("camera",), show_default=True,
    help="camera, gpio, apex, usb or vcio; again for more.",
)  # fmt: skip
@click.option("--memory", default="1G", show_default=True, help="Most memory, such as 512M.")
@click.option("--no-jit", is_flag=True, help="Forbid memory that is written and run; LiteRT alone can do without.")
def unit(
    config: Path, user: str | None, program: Path | None, devices: tuple[str, ...], memory: str, no_jit: bool
) -> None:
    """Print a unit for systemd that runs the agent in a sandbox.

    \b
    Example: lineside-agent unit --config /etc/lineside/agent.toml > /etc/systemd/system/lineside-agent.service
    """
    from device_agent.config import needs_pins
    from device_agent.document import read_config
    from device_agent.service.unit import Hardening, find_program, systemd_version, unit_text

    document = read_config(config)
    if document.bundle is None or document.source is None or document.device is None:
        absent = [name for name in ("bundle", "source", "device") if getattr(document, name) is None]
        raise BadInput(f"{config}: a service needs {', '.join(absent)} in its configuration")
    fields = {**document.options(), "state": Path(document.state or "lineside-state"), "config": document}
    settings = _settings({**fields, "bundle": Path(document.bundle)})
    if needs_pins(settings) and "gpio" not in devices:
        raise BadInput(f"{config}: uses pins, which the sandbox forbids; add --device gpio")
    text = unit_text(
        config,
        document.bundle,
        document.secrets(),
        program=program or find_program(),
        user=user,
        hardening=Hardening(devices, memory, not no_jit),
        systemd=systemd_version(),
    )
    click.echo(text, nl=False)


def _settings(options: dict[str, Any]) -> Settings:
    from device_agent.config import Settings
    from device_agent.document import Document

    document = options.get("config") or Document()
    uploads = document.samples is not None and document.samples.url is not None
    stdout = options.get("verdicts") == "-"
    cameras = [_camera(options, options["state"], _outputs(document.line, stdout), uploads=uploads)]
    for table in document.camera:
        own = {name: getattr(table, name) for name in table.__struct_fields__}
        roi = None if table.roi is None else ",".join(map(str, table.roi))
        shared = {name: options.get(name) for name in ("broker", "ca", "fleet_key")}
        line = _outputs(table.line, stdout)
        cameras.append(_camera({**shared, **own, "roi": roi}, options["state"] / table.device, line, uploads=uploads))
    names = [camera.device for camera in cameras]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"device {twice!r}: stands for two cameras; each needs a name of its own")
    return Settings(
        bundle=options["bundle"],
        cameras=tuple(cameras),
        state=options["state"],
        interval_s=options.get("interval", 60.0),
        frames=options.get("frames"),
        artifact=options.get("artifact"),
        encoding=options.get("encoding", "msgpack"),
        log=options.get("log", "plain"),
        breaker=document.breaker,
        samples=document.samples,
        preview=document.preview,
        metrics=document.metrics,
        shadow=document.shadow,
    )


def _alone(options: dict[str, Any]) -> dict[str, Any]:
    """What a command needs that looks at the bundle alone: no cameras, brokers or outputs of the configuration."""
    return {**options, "config": None, "source": "synthetic", "device": "self-test"}


def _outputs(table: LineSettings | None, stdout: bool) -> LineSettings | None:
    """A camera's outputs, with those of the command line."""
    if not stdout:
        return table
    from msgspec.structs import replace

    from device_agent.outputs.settings import LineSettings

    return LineSettings(stdout=True) if table is None else replace(table, stdout=True)


def _camera(options: dict[str, Any], state: Path, line: LineSettings | None, *, uploads: bool) -> Camera:
    from device_agent.config import Camera
    from device_agent.contract.topics import check_device
    from device_agent.frames import parse_source
    from device_agent.frames.region import parse_region

    source = parse_source(options["source"])
    if options.get("fps"):
        if "fps" in source.options:
            raise BadInput(f"--fps {options['fps']:g} and fps={source.options['fps']} in the source say the same thing")
        source = source._replace(options={**source.options, "fps": str(options["fps"])})
    if options.get("roi"):
        source = source._replace(region=parse_region(options["roi"]))
    credentials = _credentials(options)
    trigger = None
    if options.get("trigger"):
        from device_agent.triggers import parse_trigger

        trigger = parse_trigger(options["trigger"])
    return Camera(
        device=check_device(options["device"]),
        source=source,
        broker=_broker_of(options, credentials, uploads=uploads),
        state=state,
        credentials=credentials,
        trigger=trigger,
        line=line,
        fleet_key=options.get("fleet_key"),
    )


def _credentials(options: dict[str, Any]) -> Credentials:
    from device_agent.contract.credentials import Credentials

    found = (options.get(name) for name in ("ca", "cert", "key"))
    credentials = Credentials(*(None if path is None else Path(path) for path in found))
    if credentials.cert is not None:
        from device_agent.identity import check_identity

        check_identity(credentials, options["device"])
    return credentials


def _broker_of(options: dict[str, Any], credentials: Credentials, *, uploads: bool) -> Broker | None:
    """The broker, with the credentials where it is reached by TLS; `uploads` of samples need them anyway."""
    from device_agent.contract.broker import parse_broker
    from device_agent.contract.credentials import Credentials

    url = options.get("broker")
    if uploads and not (url or "").startswith("mqtts:"):
        credentials = Credentials()
    if url:
        return parse_broker(url, credentials)
    if any(credentials):
        raise BadInput("--ca, --cert and --key are for a --broker mqtts://..., got none")
    return None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that asked for an end; a second Ctrl-C interrupts at once."""
    caught: list[int] = []

    def note(number: int, _frame: object) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main() -> None:
    """Entry point of the console script."""
    run_command(cli, sys.argv[1:])
