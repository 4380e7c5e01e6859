"""Is everything there that a run needs? One finding for each part, each with what would help."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from device_agent.agent import Model, open_model
from device_agent.config import Camera, Settings
from device_agent.contract.broker import Broker, handshake_fault
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, LinesideError, NotWritable, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Address, SourceEnded
from device_agent.frames.capture import Capture
from device_agent.identity import expiry, read_certificate
from device_agent.mqtt import CONNECT_TIMEOUT_S, probe
from device_agent.outputs.settings import LineSettings
from device_agent.rungs import artifact_name
from device_agent.runtimes import RUNTIMES
from device_agent.runtimes.probe import probe_runtimes
from device_agent.salvage import NAME
from device_agent.selftest import SelfTest, self_test
from device_agent.shadow import open_candidate
from device_agent.spool import is_held
from device_agent.telemetry import clock_synced
from device_agent.triggers import TriggerAddress

SOURCE_TIMEOUT_S = 15.0
LEAST_MIB = 32
_ANY = InputSpec(height=96, width=96)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the set-up. `exit_code` is what a command that needs it would end with; `fix` is what would help."""

    part: str
    ok: bool
    text: str
    fix: str = ""
    exit_code: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The self-test of one artifact; `error` says why it could not be made."""

    artifact: str
    ok: bool
    result: SelfTest | None = None
    error: str = ""

    @property
    def why(self) -> str:
        """What is wrong with it, for a person."""
        return self.result.words if self.result else self.error


def check(settings: Settings) -> Iterator[Finding]:
    """Findings on the parts of a run, in the order in which it needs them."""
    hint = "use --state with a folder of this user, on a disk that has room and is not read-only"
    yield _finding("state", hint, lambda: _write(settings.state))
    for one in probe_runtimes([name for name in RUNTIMES.names() if name != "fake"]):
        text = f"{one.name} {one.version} works" if one.works else f"not {one.name}: {one.text}"
        yield Finding(part="runtimes", ok=True, text=text)
    model: list[Model] = []

    def bundle() -> str:
        model.append(open_model(settings))
        artifacts = ", ".join(artifact_name(artifact) for artifact in model[0].artifacts)
        return f"{model[0].manifest.name} for {model[0].manifest.profile}, with {artifacts}"

    yield _finding("bundle", "copy it again from where `lineside pack` wrote it", bundle)
    if model:
        for answer in answers(model[0]):
            text = f"{answer.artifact} {'knows its answers' if answer.ok else 'is refused: ' + answer.why}"
            fix = "" if answer.ok else 'pip install "lineside[agent-litert]", agent-onnx or agent-openvino'
            yield Finding(part="runtime", ok=answer.ok, text=text, fix=fix, exit_code=0 if answer.ok else 4)
        if (shadow := settings.shadow) is not None:
            hint = "give [shadow] the bundle of another model with the same labels and input"
            yield _finding("shadow", hint, lambda: _candidate(Path(shadow.bundle), settings.state, model[0]))
    spec = model[0].artifacts[0].input if model else _ANY
    for camera in settings.cameras:
        for finding in (_permissions(camera), *_files(camera, settings), *_camera(camera, spec)):
            named = f"{camera.device}: {finding.text}" if len(settings.cameras) > 1 else finding.text
            yield msgspec.structs.replace(finding, text=named)
    yield _clock()


def _files(camera: Camera, settings: Settings) -> Iterator[Finding]:
    """Keys that the camera's device needs, its trigger and its outputs."""
    if (key := camera.fleet_key) is not None:
        yield _finding("fleet key", "copy signing.pub from the fleet's keys", lambda: _public_key(key))
    if settings.samples is not None:
        hint, sealed = "copy samples.pub from the fleet's keys", Path(settings.samples.key)
        yield _finding("samples", hint, lambda: _samples_key(sealed))
    if is_held(camera.state / NAME):
        return  # the agent that runs here has its trigger and its outputs open
    if (trigger := camera.trigger) is not None:
        hint = "see that the pin is free and its driver installed, or the broker there"
        yield _finding("trigger", hint, lambda: _trigger(camera, trigger))
    if (line := camera.line) is not None:
        yield _finding("line", "see that the pins are free, and files and secrets there", lambda: _line(line))


def _public_key(path: Path) -> str:
    from device_agent.remote.trust import read_key

    read_key(path)
    return f"{path} can be used"


def _samples_key(path: Path) -> str:
    from device_agent.samples.seal import read_public

    read_public(path)
    return f"frames can be sealed with {path}"


def _trigger(camera: Camera, address: TriggerAddress) -> str:
    from device_agent.triggers import open_trigger

    secure = address.target.startswith("mqtts://")
    credentials = camera.credentials if secure else Credentials()
    open_trigger(address, lambda _: None, lambda *_: None, credentials).close()
    return f"{address} can be opened"


def _line(settings: LineSettings) -> str:
    from device_agent.outputs.line import open_line

    said: list[str] = []
    open_line(msgspec.structs.replace(settings, stdout=False), lambda _kind, text: said.append(text)).close(0.5)
    if said:
        raise Unreachable(f"line: {said[0]}")
    return "its outputs can be opened"


def _camera(camera: Camera, spec: InputSpec) -> Iterator[Finding]:
    """A camera, and the way of its reports."""
    hint = "see that the camera is plugged in and that the user is in group video"
    yield _finding("source", hint, lambda: _look(camera.source, spec))
    if (broker := camera.broker) is None:
        return
    if broker.credentials.cert is not None:
        hint = "issue another one: lineside-fleet keys device NAME"
        yield _finding("certificate", hint, lambda: _valid(broker.credentials))
    hint = "start the broker, or correct --broker, its user or the firewall"
    yield _finding("broker", hint, lambda: _knock(broker, camera))


def _candidate(path: Path, state: Path, model: Model) -> str:
    candidate = open_candidate(path, state, model.manifest.labels, model.artifacts)
    candidate.runtime.close()
    return f"{artifact_name(candidate.artifact)} of {path} knows its answers"


def answers(model: Model) -> list[Answer]:
    """The self-test of every artifact of a bundle."""
    found = []
    for artifact in model.artifacts:
        name = artifact_name(artifact)
        try:
            runtime = model.open(artifact)
            try:
                result = self_test(runtime, model.images, artifact.golden)
            finally:
                runtime.close()
            found.append(Answer(artifact=name, ok=result.ok, result=result))
        except LinesideError as error:
            found.append(Answer(artifact=name, ok=False, error=str(error)))
    return found


def _finding(part: str, fix: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part=part, ok=True, text=look())
    except LinesideError as error:
        return Finding(part=part, ok=False, text=str(error), fix=fix, exit_code=error.exit_code)


def _write(state: Path) -> str:
    trial = state / f".check-{secrets.token_hex(4)}"
    try:
        state.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(os.urandom(4096))
        trial.unlink()
    except OSError as error:
        raise NotWritable(f"{state}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    disk = os.statvfs(state)
    free_mib = disk.f_bavail * disk.f_frsize >> 20
    if free_mib < LEAST_MIB:
        raise NotWritable(f"{state}: {free_mib} MiB are free, {LEAST_MIB} are the least for spool and bundle")
    return f"{state} is writable, {free_mib} MiB free"


def _look(source: Address, spec: InputSpec) -> str:
    said: list[str] = []
    capture = Capture(source, spec, event=lambda _kind, text: said.append(text))
    try:
        end = time.monotonic() + SOURCE_TIMEOUT_S
        while time.monotonic() < end and not said:
            frame = capture.next(0.25)
            if frame is not None:
                return f"{source.kind} delivers frames, {frame.capture_us / 1000:.1f} ms for the first"
    except SourceEnded:
        said.append(f"{source.kind} has no frame")
    finally:
        capture.close()
    raise Unreachable(f"source {said[0] if said else f'{source.kind}: no frame within {SOURCE_TIMEOUT_S:g} s'}")


def _knock(broker: Broker, camera: Camera) -> str:
    """Brokers that know a device by its certificate end its connection when the same one comes again: while an agent
    runs, only TLS is tried."""
    if broker.credentials.cert is None or not is_held(camera.state / NAME):
        return f"{broker} speaks MQTT {probe(broker, f'{camera.device}-check')}"
    try:
        socket.create_connection((broker.host, broker.port), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise Unreachable(f"broker {broker}: {(error.strerror or str(error)).lower()}") from error
    if fault := handshake_fault(broker):
        raise Unreachable(f"broker {broker}: {fault}")
    return f"{broker} takes the certificate; an agent runs here, so MQTT was not tried in its name"


def _permissions(camera: Camera) -> Finding:
    """May this user open the camera?"""
    user, device = os.geteuid(), Path(f"/dev/video{camera.source.target}")
    if camera.source.kind == "camera" and device.exists() and not os.access(device, os.R_OK | os.W_OK):
        text = f"{device} may not be opened by user {user}"
        return Finding(part="permissions", ok=False, text=text, fix="add the user to group video", exit_code=1)
    fix = "" if user else "an ordinary user suffices, in group video for a camera"
    return Finding(part="permissions", ok=True, text=f"user {user}{'' if user else ', which is root'}", fix=fix)


def _valid(credentials: Credentials) -> str:
    assert credentials.cert is not None
    now, found = datetime.now(timezone.utc), read_certificate(credentials.cert)
    if fault := expiry(credentials, now):
        raise BadInput(fault)
    return f"of {found.name!r}, until {found.ends:%Y-%m-%d}"


def _clock() -> Finding:
    synced, now = clock_synced(), time.gmtime()
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', now)}, {'set' if synced else 'not known to be set'} by a time service"
    sane = now.tm_year >= 2025
    fix = "" if sane and synced is not False else "enable systemd-timesyncd or chrony; reports are repaired meanwhile"
    return Finding(part="clock", ok=sane, text=text, fix=fix, exit_code=0 if sane else 1)
