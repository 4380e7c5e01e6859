"""A configuration file: every field wrong in turn, and who counts for more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from device_agent.cli import cli
from device_agent.contract.errors import BadInput, NotFound
from device_agent.document import Document, read_config

WRONG = {
    "bundle": ("3", "must be text"),
    "source": ('""', "must be text"),
    "broker": ("[]", "must be text"),
    "ca": ("true", "must be text"),
    "cert": ("1.5", "must be text"),
    "key": ("{a = 1}", "must be text"),
    "fleet_key": ("7", "must be text"),
    "device": ('"PRESS"', "must be 3 to 32 of a-z, 0-9 and '-'"),
    "state": ("2026-01-01", "must be text"),
    "artifact": ("0", "must be text"),
    "fps": ("1e9", "must be frames per second from 0.01 to 1000"),
    "interval": ("nan", "must be seconds from 0.1 to 3600"),
    "frames": ("0", "must be a whole number from 1"),
    "verdicts": ('"stdout"', 'must be "-" or "none"'),
    "encoding": ('"xml"', 'must be "msgpack" or "json"'),
    "log": ("1", 'must be "plain" or "json"'),
    "trigger": ("true", "must be text"),
    "line": ("3", 'must be a table, such as [line] with mqtt = "mqtt://localhost/line/1/verdict"'),
    "preview": ("true", 'must be a table, such as [preview] with listen = "127.0.0.1:8088"'),
    "metrics": ("[]", 'must be a table, such as [metrics] with listen = "127.0.0.1:9108"'),
    "shadow": ("1", 'must be a table, such as [shadow] with bundle = "candidate.lineside"'),
    "roi": ("[0, 0, 2]", "must be [left, top, width, height] in shares of the frame, 0 to 1"),
    "camera": ("3", "must be tables [[camera]]"),
    "samples": ("3", "must be a table"),
    "breaker": ("1", "must be a table"),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("field", Document.__struct_fields__)
def test_every_field_that_is_wrong_is_said(field: str, tmp_path: Path) -> None:
    value, said = WRONG[field]
    path = write(tmp_path, f"{field} = {value}\n")
    with pytest.raises(BadInput) as error:
        read_config(path)
    assert str(error.value).startswith(f"{path}: {field} = ") and str(error.value).endswith(said)


def test_what_is_no_configuration_is_said_in_a_line(tmp_path: Path) -> None:
    for text, said in (("brokers = 1", "no field 'brokers'; known are bundle,"), ("x = [", "is not TOML")):
        with pytest.raises(BadInput, match=said):
            read_config(write(tmp_path, text))
    with pytest.raises(BadInput, match="is not TOML"):
        (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe=1")
        read_config(tmp_path / "bytes.toml")
    with pytest.raises(NotFound, match="no such file"):
        read_config(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read: is a directory"):
        read_config(tmp_path)


def test_the_command_line_counts_for_more_and_passwords_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path,
        'bundle = "b/steel.lineside"\nsource = "rtsp://admin:geheim@cam/live"\ndevice = "press-1"\ninterval = 30\n'
        'broker = "mqtt://press:geheim@hub"\nlog = "json"\ntrigger = "mqtt://plc:geheim@hub/part"\n'
        '[line]\nmqtt = "mqtt://plc:geheim@hub/verdict"\nwebhook = "http://plc/verdict"\n',
    )
    monkeypatch.setenv("LINESIDE_BROKER", "mqtt://line:geheim@other")
    arguments = ["config", "--config", str(path), "--interval", "5", "--json"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "geheim" not in result.output
    shown = {each["name"]: (each["value"], each["from"]) for each in json.loads(result.stdout)}
    assert shown["interval"] == (5.0, "option") and shown["log"] == ("json", "file")
    assert shown["broker"] == ("mqtt://other:1883", "environment") and shown["encoding"] == ("msgpack", "default")
    assert shown["bundle"] == (str(tmp_path / "b" / "steel.lineside"), "file"), "beside the file that names it"
    assert "geheim" not in CliRunner().invoke(cli, arguments[:-1], catch_exceptions=False).output


def test_what_the_options_refuse_the_file_is_refused_too(tmp_path: Path) -> None:
    path = write(tmp_path, 'bundle = "b"\nsource = "synthetic"\ndevice = "press-1"\nca = "ca.pem"\n')
    result = CliRunner().invoke(cli, ["config", "--config", str(path)])
    assert result.exit_code != 0 and "--ca, --cert and --key are for a --broker mqtts://" in str(result.exception)


def test_what_systemd_handed_over_lies_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        'bundle = "/opt/steel.lineside"\ncert = "keys/press-1.pem"\nkey = "/root/press-1.key"\n'
        '[line]\nwebhook = "https://plc/verdict"\nwebhook_ca = "plc/ca.pem"\n[samples]\nkey = "keys/samples.pub"\n'
    )
    document = read_config(write(tmp_path, text))
    said = [str(path) for path in document.secrets()]
    assert said == [
        f"{tmp_path}/keys/press-1.pem", "/root/press-1.key", f"{tmp_path}/plc/ca.pem", f"{tmp_path}/keys/samples.pub"
    ]  # fmt: skip
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    handed = read_config(write(tmp_path, text))
    names = ["press-1.pem", "press-1.key", "ca.pem", "samples.pub"]
    assert handed.secrets() == [tmp_path / name for name in names] and handed.bundle == "/opt/steel.lineside"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[preview]\nlisten = "0.0.0.0:80"', "listen = '0.0.0.0:80' is open to the network"),
        ("[metrics]\nlisen = 1", "metrics: no field 'lisen'; known are listen,"),
        ("[line]\ndeadline_ms = 0", "line.deadline_ms = 0: must be milliseconds from 1 to 60000"),
        ('[line]\nsafe = "stop"', "line.safe = 'stop': must be"),
        ("[line]\ngpio_pass = 4\ngpio_reject = 4", "gpio_pass and gpio_reject are both pin 4"),
        ('[[camera]]\ndevice = "cam-2"\nsource = "synthetic"\n[camera.line]\npulse_ms = -1', "camera[0].line.pulse_ms"),
        ("[samples]\nper_day = 1", "samples.key is missing"),
    ],
)
def test_a_wrong_field_of_a_table_is_said(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        read_config(write(tmp_path, text))
    assert said in str(error.value)
