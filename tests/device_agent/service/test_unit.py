"""The unit is what systemd takes without a complaint and scores as tight."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from device_agent.contract.errors import BadInput
from device_agent.service.unit import DEVICES, Hardening, systemd_version, unit_text

CONFIG = Path("/etc/lineside/agent.toml")
BUNDLE = "/var/lib/steel.lineside"
FILES = [Path("/etc/lineside/press-1.pem"), Path("/root/press-1.key")]
PROGRAM = Path("/usr/bin/true")  # verify looks whether it is there
ALL = tuple(DEVICES)


@pytest.fixture
def analyze(tmp_path):
    """`analyze(text, "verify")`: what systemd-analyze says of the unit."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("system: systemd-analyze not found")

    def run(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "lineside-agent.service"
        path.write_text(text)
        command = [program, *arguments, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and line[0] not in "#["]


@pytest.mark.parametrize("user", [None, "lineside"])
@pytest.mark.parametrize("devices", [("camera",), ("camera", "gpio"), ("camera", "apex", "vcio")])
def test_its_exposure_is_two_or_less(analyze, devices, user):
    text = unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM, user=user, hardening=Hardening(devices=devices))
    done = analyze(text, "security", "--offline=true", "--threshold=20", "--no-pager")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "Overall exposure level" in done.stdout


def test_the_score_is_one_that_can_be_missed(analyze):
    text = unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM).replace("RestrictNamespaces=yes\n", "")
    assert analyze(text, "security", "--offline=true", "--threshold=20", "--no-pager").returncode != 0


@pytest.mark.parametrize("hardening", [Hardening(), Hardening(devices=ALL, jit=False, memory_max="512M")])
def test_systemd_has_nothing_to_say_against_it(analyze, hardening):
    done = analyze(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM, hardening=hardening), "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_user_of_its_own_reads_what_is_handed_over_and_writes_one_folder():
    text = lines(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM))
    for line in (
        "DynamicUser=yes",
        "StateDirectory=lineside",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=",
        "LoadCredential=agent.toml:/etc/lineside/agent.toml",
        "LoadCredential=press-1.pem:/etc/lineside/press-1.pem",
        "LoadCredential=press-1.key:/root/press-1.key",
        "ExecStart=/usr/bin/true run --config ${CREDENTIALS_DIRECTORY}/agent.toml --bundle /var/lib/steel.lineside "
        "--state ${STATE_DIRECTORY}",
    ):
        assert line in text
    assert not any(line.startswith(("ReadWritePaths=", "ProtectClock=", "ProcSubset=")) for line in text)
    assert "User=lineside" in lines(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM, user="lineside"))


def test_it_sees_the_devices_that_were_asked_for_and_no_other():
    text = lines(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM))
    assert [line for line in text if line.startswith("Device")] == [
        "DevicePolicy=closed",
        "DeviceAllow=char-video4linux rw",
        "DeviceAllow=char-media rw",
    ]
    text = lines(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM, hardening=Hardening(devices=("gpio", "usb"))))
    assert "DeviceAllow=char-gpiochip rw" in text and "DeviceAllow=char-usb_device rw" in text
    assert "SupplementaryGroups=gpio plugdev" in text and "DeviceAllow=char-video4linux rw" not in text
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK" in text, "libusb hears of devices by netlink"


def test_it_never_gives_up_and_waits_longer_where_systemd_can():
    plain, later = (lines(unit_text(CONFIG, BUNDLE, FILES, program=PROGRAM, systemd=version)) for version in (252, 254))
    for text in (plain, later):
        assert {"StartLimitIntervalSec=0", "Restart=on-failure", "RestartSec=5", "WatchdogSec=30"} <= set(text)
    assert set(later) - set(plain) == {"RestartSteps=6", "RestartMaxDelaySec=300"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bundle": None}, "needs a bundle"),
        ({"bundle": "/home/me/steel.lineside"}, "sees nothing of /home"),
        ({"bundle": "/tmp/steel.lineside"}, "sees nothing of /tmp"),
        ({"program": Path("/root/.venv/bin/lineside-agent")}, "sees nothing of /root"),
        ({"bundle": "/var/a b"}, "must be of letters"),
        ({"bundle": "/var/%n"}, "must be of letters"),
        ({"bundle": "/var/$HOME"}, "must be of letters"),
        ({"config": Path("/etc/a\nExecStart=/bin/sh")}, "must be of letters"),
        ({"files": [Path("/etc/key;x")]}, "must be of letters"),
        ({"files": [*FILES, Path("/etc/press-1.key")]}, "another file of the configuration has the same last name"),
        ({"user": "root\nUser=root"}, "must be a user's name"),
        ({"user": "-x"}, "must be a user's name"),
        ({"hardening": Hardening(devices=("camera", "kvm"))}, "device 'kvm': must be one of camera, gpio"),
        ({"hardening": Hardening(memory_max="1G\nUser=root")}, "must be bytes, or such as 512M"),
    ],
)
def test_what_would_not_run_or_would_break_out_is_refused(change, said):
    given = {"config": CONFIG, "bundle": BUNDLE, "files": FILES, "program": PROGRAM, **change}
    with pytest.raises(BadInput, match=said):
        unit_text(**given)


def test_the_version_of_systemd_is_a_number():
    assert 200 < systemd_version() < 1000
