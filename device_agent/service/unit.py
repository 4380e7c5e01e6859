"""The unit that systemd runs the agent by: a user of its own, one folder to write to, the camera, nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.errors import BadInput, NotFound

DEVICES = {
    "camera": ("char-video4linux", "char-media"),
    "gpio": ("char-gpiochip",),
    "apex": ("char-apex",),
    "usb": ("char-usb_device",),
    "vcio": ("char-vcio",),
}
"""What an agent may be given: cameras, output pins, Coral on PCIe, Coral and cameras on USB, and the firmware of a
Raspberry Pi, which knows why it is throttled."""
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
_STEPS_SINCE = 254


class Hardening(NamedTuple):
    """What differs from board to board. `memory_max` as systemd writes it; `jit` keeps memory that can be written and
    run, which OpenVINO, ONNX Runtime's oneDNN and XNNPACK's generated code need."""

    devices: tuple[str, ...] = ("camera",)
    memory_max: str = "1G"
    jit: bool = True


def unit_text(
    config: Path,
    bundle: str | None,
    files: Sequence[Path],
    *,
    program: Path,
    user: str | None = None,
    hardening: Hardening = Hardening(),  # noqa: B008 - immutable
    systemd: int = 252,
) -> str:
    """The unit of an agent with this configuration.

    Args:
        config: the TOML file, with the bundle and the other files that it names, see `document.Document.secrets`.
        program: `lineside-agent`.
        user: who runs it; None for a user that systemd makes for it.
        systemd: the version that will read the unit; from 254 on restarts are further and further apart, to 5 min.

    Raises:
        BadInput: no bundle; two files of one name; a path that cannot stand in a unit, or lies where the unit sees
            nothing; a user, device or memory limit that is none.
    """
    if bundle is None:
        raise BadInput(f'{config}: the unit needs a bundle, for example bundle = "/var/lib/steel.lineside"')
    for name in hardening.devices:
        if name not in DEVICES:
            raise BadInput(f"device {name!r}: must be one of {', '.join(DEVICES)}")
    if not re.fullmatch(r"[1-9][0-9]*[KMG]?", hardening.memory_max):
        raise BadInput(f"memory {hardening.memory_max!r}: must be bytes, or such as 512M or 1G")
    if user is not None and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", user):
        raise BadInput(f"user {user!r}: must be a user's name, such as lineside")
    loads = {"agent.toml": _plain(config)}
    for path in files:  # systemd hands them over by their last names
        if loads.setdefault(path.name, _plain(path)) != _plain(path):
            raise BadInput(f"{path}: another file of the configuration has the same last name; rename one of them")
    command = (
        f"{_seen(program)} run --config ${{CREDENTIALS_DIRECTORY}}/agent.toml --bundle {_seen(Path(bundle))}"
        " --state ${STATE_DIRECTORY}"
    )
    return _TEMPLATE.format(
        who=f"User={user}" if user else "DynamicUser=yes",
        command=command,
        credentials="\n".join(f"LoadCredential={name}:{path}" for name, path in loads.items()),
        steps="\nRestartSteps=6\nRestartMaxDelaySec=300" if systemd >= _STEPS_SINCE else "",
        memory=hardening.memory_max,
        groups=" ".join(_groups(hardening.devices)) or "video",
        devices="\n".join(f"DeviceAllow={kind} rw" for name in hardening.devices for kind in DEVICES[name]),
        families="AF_UNIX AF_INET AF_INET6" + (" AF_NETLINK" if "usb" in hardening.devices else ""),
        writable="" if hardening.jit else "\nMemoryDenyWriteExecute=yes",
    )


def _groups(devices: tuple[str, ...]) -> list[str]:
    owners = {"camera": "video", "gpio": "gpio", "apex": "apex", "usb": "plugdev", "vcio": "video"}
    return sorted({owners[name] for name in devices})


def _plain(path: Path) -> str:
    """The absolute path, if it can stand in a unit as it is."""
    text = str(path.absolute())
    if not re.fullmatch(r"[A-Za-z0-9_./+@:-]+", text):
        raise BadInput(f"{text}: a path in the unit must be of letters, digits and _./+@:-")
    return text


def _seen(path: Path) -> str:
    """The absolute path, if the agent sees it from within."""
    text = _plain(path)
    for hidden in _HIDDEN:
        if text.startswith(f"{hidden}/"):
            raise BadInput(f"{text}: the unit sees nothing of {hidden}; move it, for example to /opt or /var/lib")
    return text


def find_program() -> Path:
    """Where this agent's own program lies.

    Raises:
        NotFound: it is not installed.
    """
    beside = Path(sys.executable).with_name("lineside-agent")
    found = str(beside) if beside.exists() else shutil.which("lineside-agent")
    if not found:
        raise NotFound("lineside-agent: is not installed here; name it with --program")
    return Path(found)


def systemd_version() -> int:
    """The version of this machine's systemd, 252 where it cannot be asked."""
    try:
        done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 252
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 252


_TEMPLATE = """\
[Unit]
Description=lineside agent
Documentation=https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
Wants=network-online.target
After=network-online.target time-sync.target
# never give up: a line waits for this machine
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
# the next start reads why this one ended
ExecStopPost=-/bin/sh -c 'echo "$$SERVICE_RESULT $$EXIT_CODE $$EXIT_STATUS" > "$$STATE_DIRECTORY/last-end"'
Environment=PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 PYTHONDONTWRITEBYTECODE=1
Restart=on-failure
RestartSec=5{steps}
TimeoutStartSec=300
TimeoutStopSec=30
WatchdogSec=30
TimeoutAbortSec=10
LimitCORE=0
MemoryMax={memory}
MemorySwapMax=0
TasksMax=256
# a capture process that is killed is started again by the agent
OOMPolicy=continue

# who it is, and what it may write
{who}
StateDirectory=lineside
StateDirectoryMode=0700
{credentials}
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RemoveIPC=yes
KeyringMode=private

# devices: these and no other. ProtectClock= is left out: it would hide from the agent whether the clock is set, and
# brings a device list of its own; without capabilities nobody here can set a clock
DevicePolicy=closed
SupplementaryGroups={groups}
{devices}

# the kernel. ProcSubset= is left out: runtimes read /proc/cpuinfo and silently take their slow path without it
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RestrictAddressFamilies={families}
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallFilter=adjtimex clock_adjtime
SystemCallErrorNumber=EPERM{writable}

[Install]
WantedBy=multi-user.target
"""
