"""Configurations and commands for a real agent through a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from click.testing import CliRunner

from device_agent.contract import topics
from device_agent.contract.broker import parse_broker
from device_agent.contract.codec import SCHEMA, decode
from device_agent.contract.control import Response
from device_agent.contract.errors import NotFound, Unreachable
from device_agent.contract.session import Birth
from fleet.chaos.bundle import write_fake_bundle
from fleet.cli import cli
from fleet.commands.control import _tell
from fleet.control import Letter, NotTaken, command, configuration, last_asked, send
from fleet.keys import create, utc_now

AGENT = [sys.executable, "-m", "device_agent", "run"]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create(tmp_path / "keys", ["localhost"], utc_now())
    return tmp_path / "keys"


@pytest.fixture
def agent(tmp_path: Path, keys: Path, eventually):
    """`agent(url)`: a running agent that obeys the fleet's key; its log is in agent.log."""
    running: list[subprocess.Popen[bytes]] = []
    bundle = tmp_path / "fake.lineside"
    write_fake_bundle(bundle)

    def begin(url: str) -> subprocess.Popen[bytes]:
        command_line = [*AGENT, "--bundle", str(bundle), "--source", "synthetic:size=64,fps=20", "--device", "press-1"]
        command_line += ["--broker", url, "--state", str(tmp_path / "state"), "--interval", "0.5"]
        command_line += ["--fleet-key", str(keys / "signing.pub")]
        with (tmp_path / "agent.log").open("ab") as log:
            running.append(subprocess.Popen(command_line, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        eventually(lambda: (tmp_path / "agent.log").read_text().count("broker_connected") >= len(running), 30)
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


def asked(*arguments: object):
    return CliRunner().invoke(cli, [str(one) for one in arguments])


@pytest.mark.broker
@pytest.mark.slow
def test_a_command_and_a_configuration_reach_a_running_agent(tmp_path, keys, agent, mosquitto, eventually) -> None:
    first = agent(mosquitto.url)
    options = ("--broker", mosquitto.url, "--keys", keys, "--timeout", 20)
    assert asked("command", "press-1", "ping", *options).output == "pong\n"
    status = json.loads(asked("command", "press-1", "status", *options, "--json").output)
    assert status["ok"] and json.loads(status["text"])["serving"] == "fake-fp32"
    assert "golden answers" in asked("command", "press-1", "selftest", *options).output
    assert "closed" in asked("command", "press-1", "reset-breaker", *options).output
    refused = asked("command", "press-1", "reboot", *options)
    assert refused.exit_code == 1 and "known are bench, ping" in str(refused.exception)
    assert asked("configure", "press-1", "--set", "interval=1.5", *options).output == "applied\n"
    eventually(lambda: intervals(mosquitto, 1500), 10)
    assert asked("configure", "press-1", "--unset", "interval", *options).output == "applied\n"
    eventually(lambda: intervals(mosquitto, 500), 10, message="the device's own interval does not hold again")
    not_a_number = asked("configure", "press-1", "--set", "interval=nan", *options)
    assert not_a_number.exit_code == 1 and "interval = 'nan': must be seconds" in str(not_a_number.exception)
    wrong = asked("configure", "press-1", "--set", "interval=0", *options)
    assert wrong.exit_code == 1 and "must be seconds from 0.1 to 3600" in str(wrong.exception)
    log = tmp_path / "agent.log"
    first.terminate()
    assert first.wait(20) == 0
    agent(mosquitto.url)  # the retained one comes again, and what holds is remembered
    shown = asked("command", "press-1", "status", *options)
    assert shown.exit_code == 0 and log.read_text().count("config_applied") == 2


@pytest.mark.broker
@pytest.mark.slow
def test_replayed_retained_and_old_messages_change_nothing(tmp_path, keys, agent, mosquitto, eventually) -> None:
    broker, log = parse_broker(mosquitto.url), tmp_path / "agent.log"
    agent(mosquitto.url)
    once = command(keys, "press-1", "ping", "", time.time())
    assert send(broker, "press-1", once, 20).ok
    assert send(broker, "press-1", once, 1) is None
    eventually(lambda: "command_replayed" in log.read_text(), 10)
    kept = command(keys, "press-1", "ping", "", time.time())
    publish(broker, topics.down("press-1", "command"), kept.payload)
    old, _ = configuration(keys, "press-1", {"interval": 2.0}, time.time() - 500)
    new, _ = configuration(keys, "press-1", {"interval": 3.0}, time.time())
    assert send(broker, "press-1", new, 20).ok
    assert not send(broker, "press-1", old, 20).ok
    eventually(lambda: "config_old" in log.read_text(), 10)
    forged = Letter("config", new.payload[:-1] + bytes([new.payload[-1] ^ 1]), new.nonce)
    assert send(broker, "press-1", forged, 1) is None
    eventually(lambda: "remote_refused" in log.read_text(), 10)
    agent_again = tmp_path / "state" / "remote.json"
    assert json.loads(agent_again.read_bytes())["settings"] == '{"interval":3.0}'


@pytest.mark.slow
def test_mqtt_3_is_enough(keys, agent, amqtt_broker) -> None:
    agent(amqtt_broker.url)
    said = asked("command", "press-1", "ping", "--broker", amqtt_broker.url, "--keys", keys, "--timeout", 20)
    assert said.output == "pong\n"


def test_what_cannot_be_asked_is_said(tmp_path, keys, free_port) -> None:
    url = f"mqtt://127.0.0.1:{free_port}"
    nobody = asked("command", "press-1", "ping", "--broker", url, "--keys", keys)
    assert isinstance(nobody.exception, Unreachable) and nobody.exception.exit_code == 5
    without = asked("command", "press-1", "ping", "--broker", url, "--keys", tmp_path / "none")
    assert isinstance(without.exception, NotFound) and "keys init makes it" in str(without.exception)
    assert asked("configure", "press-1", "--broker", url, "--keys", keys).exit_code == 2
    assert asked("configure", "press-1", "--set", "interval", "--broker", url, "--keys", keys).exit_code == 2


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (KeyboardInterrupt(), {"interval": 5.0, "on_drift": "safe"}),
        (Unreachable("the connection ended before the answer"), {"interval": 5.0, "on_drift": "safe"}),
        (None, {"interval": 5.0, "on_drift": "safe"}),
        (NotTaken("the broker did not take the message"), {"interval": 5.0}),
        (Response(SCHEMA, b"8 bytes.", False, "version 3 comes after 9; send a later one"), {"interval": 5.0}),
    ],
)
def test_what_may_have_reached_a_device_is_built_upon_and_no_version_is_given_twice(
    keys, monkeypatch, outcome: BaseException | Response | None, kept: dict[str, object]
) -> None:
    outcomes: list[BaseException | Response | None] = [Response(SCHEMA, b"8 bytes.", True, "applied"), outcome]

    def send_nothing(*_: object) -> Response | None:
        said = outcomes.pop(0)
        if isinstance(said, BaseException):
            raise said
        return said

    monkeypatch.setattr("fleet.control.send", send_nothing)
    options = ("--broker", "mqtt://127.0.0.1:1", "--keys", keys)
    assert asked("configure", "press-1", "--set", "interval=5", *options).exit_code == 0
    first = last_asked(keys, "press-1")
    assert asked("configure", "press-1", "--set", "on_drift=safe", *options).exit_code != 0
    then = last_asked(keys, "press-1")
    assert then.settings == kept and then.version > first.version
    _, following = configuration(keys, "press-1", {}, first.version)
    assert following.version > then.version
    _, over = configuration(keys, "press-1", {}, first.version, after=4_000_000_000)
    assert over.version == 4_000_000_001


@pytest.mark.broker
def test_a_device_that_is_off_is_told_and_gets_its_configuration_later(keys, mosquitto) -> None:
    options = ("--broker", mosquitto.url, "--keys", keys, "--timeout", 0.5)
    off = asked("configure", "press-1", "--set", "interval=5", *options)
    assert isinstance(off.exception, Unreachable) and "waits at the broker" in str(off.exception)
    kept = json.loads((keys / "configurations" / "press-1.json").read_bytes())
    assert kept["settings"] == {"interval": 5.0} and kept["version"] > 1_700_000_000


def test_what_a_device_says_moves_no_cursor(capsys) -> None:
    _tell("press-1", Response(SCHEMA, bytes(8), True, "\x1b[2Jpong"), False, "")
    assert capsys.readouterr().out == "\ufffd[2Jpong\n"


def intervals(broker, wanted_ms: int) -> bool:
    """Does the retained birth of the device name this interval?"""
    from paho.mqtt.subscribe import simple

    message = simple(topics.up("press-1", "birth"), hostname=broker.host, port=broker.port)
    return decode(bytes(message.payload), Birth).interval_ms == wanted_ms


def publish(broker, topic: str, payload: bytes) -> None:
    """Retained, as a malicious broker would keep it, with a connection of the agent cut so that it comes again."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
