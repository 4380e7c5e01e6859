"""A fleet's own certificates, on a real broker that asks for them."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from click.testing import CliRunner
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from device_agent.check import _knock
from device_agent.config import Camera
from device_agent.contract import topics
from device_agent.contract.broker import Broker, parse_broker
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, NotFound, Unreachable
from device_agent.frames import parse_source
from device_agent.mqtt import CommandReceived, Connected, Disconnected, Link, News, Rejected, probe
from device_agent.salvage import open_spool
from device_agent.spool import is_held
from fleet.cli import cli
from fleet.control import command, send
from fleet.keys import MONITOR, MOSQUITTO, certify_device, certify_worker, create, issued, revoke, utc_now

Eventually = Callable[..., object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "fleet"
    create(folder, ["127.0.0.1", "localhost"], utc_now())
    for device in ("press-1", "press-2"):
        certify_device(folder, device, utc_now(), days=30)
    return folder


def credentials(folder: Path, name: str) -> Credentials:
    path = folder / name if name == "fleet" else folder / "devices" / name
    return Credentials(folder / "authority.pem", path.with_suffix(".pem"), path.with_suffix(".key"))


def secure(mosquitto: Any, folder: Path) -> Callable[[Credentials], Broker]:
    """The broker with the fleet's configuration, at its own port and folder; `broker(credentials)` to reach it."""
    mosquitto.stop()
    text = MOSQUITTO.replace("/etc/mosquitto/lineside", str(folder))
    text = text.replace("listener 8883", f"listener {mosquitto.port} {mosquitto.host}")
    for path in (*folder.parents, folder):  # Mosquitto reads as itself
        if path.owner() == "root" and len(path.parts) > 2:
            path.chmod(path.stat().st_mode | 0o055)
    mosquitto.config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
    mosquitto.start()
    return lambda mine: parse_broker(f"mqtts://127.0.0.1:{mosquitto.port}", mine)


@pytest.fixture
def open_link() -> Iterator[Callable[[Broker, str], list[News]]]:
    opened: list[Link] = []

    def begin(broker: Broker, device: str) -> list[News]:
        heard: list[News] = []
        opened.append(Link(broker, device, heard.append))
        opened[-1].open(b"will")
        heard_of[id(heard)] = opened[-1]
        return heard

    heard_of: dict[int, Link] = {}
    begin.link = lambda heard: heard_of[id(heard)]  # type: ignore[attr-defined]
    yield begin
    for one in opened:
        one.close(0.0)


@pytest.mark.broker
def test_a_device_speaks_for_itself_alone(mosquitto: Any, made: Path, open_link: Any, eventually: Eventually) -> None:
    broker = secure(mosquitto, made)
    seen: list[tuple[str, bytes]] = []
    monitor = paho.Client(CallbackAPIVersion.VERSION2, client_id=MONITOR, protocol=MQTTProtocolVersion.MQTTv5)
    monitor.tls_set_context(credentials(made, "fleet").context())
    monitor.on_message = lambda _client, _data, message: seen.append((message.topic, message.payload))
    monitor.on_connect = lambda client, *_: client.subscribe(f"{topics.ROOT}/up/#")
    monitor.connect("127.0.0.1", mosquitto.port)
    monitor.loop_start()
    try:
        heard = open_link(broker(credentials(made, "press-1")), "press-1")
        eventually(lambda: Connected() in heard)
        link = open_link.link(heard)
        eventually(lambda: link.publish("report", b"mine", qos=1) or any(p == b"mine" for _, p in seen))
        client = link._client
        client.publish(topics.up("press-2", "report"), b"another's", qos=1)
        eventually(lambda: any(isinstance(news, Rejected) for news in heard))
        monitor.publish(topics.FLEET_STATE, b"here", retain=True)
        monitor.publish(topics.down("press-2", "ack"), b"another's ack", qos=1)
        got: list[bytes] = []
        client.on_message = lambda _client, _data, message: got.append(message.payload)
        client.subscribe([(topics.FLEET_STATE, 1), (topics.down("press-2", "ack"), 1)])
        monitor.publish(topics.down("press-2", "ack"), b"another's ack", qos=1)
        eventually(lambda: b"here" in got)
        link.publish("report", b"after", qos=1)
        eventually(lambda: any(p == b"after" for _, p in seen))
        assert {payload for _, payload in seen} >= {b"mine", b"after"} and b"another's" not in {p for _, p in seen}
        assert got == [b"here"]
    finally:
        monitor.disconnect()
        monitor.loop_stop()


@pytest.mark.broker
def test_two_workers_hear_everything_side_by_side(
    mosquitto: Any, tmp_path: Path, open_link: Any, eventually: Eventually
) -> None:
    folder = tmp_path / "fleet"
    create(folder, ["127.0.0.1"], utc_now())
    certify_device(folder, "press-1", utc_now(), days=30)
    certify_worker(folder, f"{MONITOR}-3", utc_now())
    second = certify_worker(folder, f"{MONITOR}-2", utc_now())
    assert (folder / "acl").read_text().count(f"user {MONITOR}-") == 2
    broker, seen, clients = secure(mosquitto, folder), list[tuple[str, bytes]](), []
    for name, path in ((MONITOR, folder / "fleet"), (f"{MONITOR}-2", second)):
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
        mine = Credentials(folder / "authority.pem", path.with_suffix(".pem"), path.with_suffix(".key"))
        client.tls_set_context(mine.context())
        client.on_message = lambda _client, _data, message, name=name: seen.append((name, message.payload))
        client.on_connect = lambda client, *_: client.subscribe(f"{topics.ROOT}/up/#")
        client.connect("127.0.0.1", mosquitto.port)
        client.loop_start()
        clients.append(client)
    try:
        heard = open_link(broker(credentials(folder, "press-1")), "press-1")
        eventually(lambda: Connected() in heard)
        link = open_link.link(heard)
        eventually(
            lambda: link.publish("report", b"x", qos=1) or {name for name, _ in seen} == {MONITOR, f"{MONITOR}-2"}
        )
    finally:
        for client in clients:
            client.disconnect()
            client.loop_stop()


def test_no_device_is_given_the_name_of_a_worker(tmp_path: Path) -> None:
    create(tmp_path / "fleet", ["localhost"], utc_now())
    for name in (MONITOR, f"{MONITOR}-2", f"{MONITOR}x"):
        with pytest.raises(BadInput, match="a name of the fleet's own"):
            certify_device(tmp_path / "fleet", name, utc_now(), days=3)
    for name in ("press-1", MONITOR, f"{MONITOR}2"):
        with pytest.raises(BadInput, match=f"must begin with {MONITOR}-"):
            certify_worker(tmp_path / "fleet", name, utc_now())
    with pytest.raises(NotFound):
        certify_worker(tmp_path / "none", f"{MONITOR}-2", utc_now())


@pytest.mark.broker
def test_another_certificate_does_not_take_a_name(
    mosquitto: Any, made: Path, open_link: Any, eventually: Eventually
) -> None:
    broker = secure(mosquitto, made)
    heard = open_link(broker(credentials(made, "press-1")), "press-1")
    eventually(lambda: Connected() in heard)
    thief = open_link(broker(credentials(made, "press-2")), "press-1")
    eventually(lambda: Connected() in thief)
    open_link.link(heard).publish("report", b"still here", qos=1)
    assert not any(isinstance(news, Disconnected) for news in heard)


@pytest.mark.broker
def test_who_is_refused_is_told_why(
    mosquitto: Any, made: Path, tmp_path: Path, open_link: Any, eventually: Eventually
) -> None:
    old, gone = "press-8", "press-9"
    certify_device(made, old, utc_now() - timedelta(days=400), days=30)
    certify_device(made, gone, utc_now(), days=30)
    revoke(made, gone, utc_now())
    other = tmp_path / "other"
    create(other, ["127.0.0.1"], utc_now())
    certify_device(other, "press-1", utc_now(), days=30)
    broker = secure(mosquitto, made)
    right = credentials(made, "press-1")
    for mine, why in (
        (credentials(made, old), "refuses TLS: certificate expired"),
        (credentials(made, gone), "refuses TLS: certificate revoked"),
        (credentials(other, "press-1")._replace(ca=right.ca), "refuses TLS: unknown ca"),
        (Credentials(ca=right.ca), "refuses TLS: certificate required"),
        (credentials(other, "press-1"), "certificate is not trusted: "),
    ):
        with pytest.raises(Unreachable, match=why):
            probe(broker(mine), "press-1")
        heard = open_link(broker(mine), "press-1")
        eventually(lambda heard=heard: heard)
        assert isinstance(heard[0], Disconnected) and why in heard[0].why and heard[0].refused
    assert probe(broker(right), "press-1") == "5"


@pytest.mark.broker
def test_a_second_command_with_the_same_certificate_is_told_apart_from_a_silent_device(
    mosquitto: Any, made: Path, open_link: Any, eventually: Eventually
) -> None:
    broker, ended = secure(mosquitto, made), list[str]()
    operator = broker(Credentials(made / "authority.pem", made / "operator.pem", made / "operator.key"))
    heard = open_link(broker(credentials(made, "press-1")), "press-1")
    eventually(lambda: Connected() in heard)

    def ask() -> None:
        try:
            send(operator, "press-1", command(made, "press-1", "ping", "", time.time()), 60.0)
        except Unreachable as error:
            ended.append(str(error))

    first = threading.Thread(target=ask)
    first.start()
    eventually(lambda: any(isinstance(news, CommandReceived) for news in heard))
    assert send(operator, "press-1", command(made, "press-1", "ping", "", time.time()), 0.1) is None, "it is silent"
    first.join(30)
    assert not first.is_alive() and "does another command use the same certificate?" in ended[0]
    assert "press-1 may have done what it was asked" in ended[0]


@pytest.mark.broker
def test_a_check_leaves_a_running_agent_its_connection(
    mosquitto: Any, made: Path, tmp_path: Path, open_link: Any, eventually: Eventually
) -> None:
    broker = secure(mosquitto, made)(credentials(made, "press-1"))
    camera = Camera("press-1", parse_source("synthetic"), broker, tmp_path)
    assert _knock(broker, camera).endswith("speaks MQTT 5"), "no agent runs"
    spool = open_spool(tmp_path, lambda *_: None)
    before = sorted(tmp_path.iterdir())
    heard = open_link(broker, "press-1")
    eventually(lambda: Connected() in heard)
    assert "takes the certificate; an agent runs here" in _knock(broker, camera)
    assert not any(isinstance(news, Disconnected) for news in heard) and sorted(tmp_path.iterdir()) == before
    none = broker._replace(credentials=credentials(made, "press-2"), port=1)
    with pytest.raises(Unreachable, match="refused"):
        _knock(none, camera)
    mosquitto.stop()
    other = tmp_path / "other"
    create(other, ["127.0.0.1"], utc_now())
    certify_device(other, "press-1", utc_now(), days=30)
    stranger = secure(mosquitto, made)(credentials(other, "press-1")._replace(ca=made / "authority.pem"))
    with pytest.raises(Unreachable, match="refuses TLS: unknown ca"):
        _knock(stranger, camera)
    spool.close()
    assert not is_held(spool.path)


def test_a_link_outlives_a_certificate_that_is_away(made: Path, tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_bytes((made / "devices" / "press-1.pem").read_bytes())
    broker = parse_broker("mqtts://127.0.0.1:1", credentials(made, "press-1")._replace(cert=cert))
    cert.unlink()
    heard: list[News] = []
    Link(broker, "press-1", heard.append).open(b"will")
    assert heard == [Disconnected(f"--cert {cert}: no such file")]


def test_files_that_do_not_fit_are_named(made: Path, tmp_path: Path) -> None:
    one, two = credentials(made, "press-1"), credentials(made, "press-2")
    noise = tmp_path / "noise.pem"
    noise.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    open_key = tmp_path / "open.key"
    open_key.write_bytes(one.key.read_bytes())  # type: ignore[union-attr]
    open_key.chmod(0o644)
    for mine, error, said in (
        (one._replace(key=None), BadInput, "--cert and --key belong together"),
        (one._replace(key=two.key), BadInput, "is not the key of"),
        (one._replace(key=open_key), BadInput, "other users may read or write it; chmod 600"),
        (one._replace(ca=noise), BadInput, "holds no certificate in PEM"),
        (one._replace(cert=noise), BadInput, "a certificate and its unencrypted key in PEM are wanted"),
        (one._replace(ca=tmp_path), BadInput, "cannot be read: is a directory"),
        (one._replace(ca=tmp_path / "none"), NotFound, "none: no such file"),
    ):
        with pytest.raises(error, match=said):
            parse_broker("mqtts://127.0.0.1", mine)
    with pytest.raises(BadInput, match="are for mqtts://"):
        parse_broker("mqtt://127.0.0.1", one)


def test_keys_are_for_one_user_and_a_second_certificate_takes_the_first_back(tmp_path: Path) -> None:
    folder, run = tmp_path / "keys", CliRunner().invoke
    assert run(cli, ["keys", "init", "--keys", str(folder), "--host", "hub.example"]).exit_code == 0
    keys = [*folder.glob("*.key")]
    assert len(keys) == 6 and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for _ in range(2):
        assert run(cli, ["keys", "device", "press-1", "--keys", str(folder)]).exit_code == 0
    (found,) = issued(folder)
    assert found.revoked is None and found.name == "press-1"
    assert run(cli, ["keys", "revoke", "press-1", "--keys", str(folder)]).exit_code == 0
    assert issued(folder)[0].revoked is not None
    assert "revoked" in run(cli, ["keys", "list", "--keys", str(folder)]).output
    for arguments, said in (
        (["init", "--host", "hub.example"], "holds the keys of a fleet already"),
        (["device", "UP"], "device id 'UP' must be"),
        (["device", MONITOR], "is a name of the fleet's own"),
        (["revoke", "press-7"], "has no certificate of 'press-7'"),
    ):
        result = run(cli, ["keys", *arguments, "--keys", str(folder)])
        assert result.exit_code != 0 and said in str(result.exception) + result.output
    none = run(cli, ["keys", "list", "--keys", str(tmp_path / "none")])
    assert "holds no keys of a fleet" in str(none.exception) + none.output
