"""The monitor as a program, on a real broker: killed, restarted, refused, and ended in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import func, select

from device_agent.contract import topics
from device_agent.contract.codec import decode
from device_agent.contract.session import Ack, State
from fleet.schema import DETECTOR, REPORT, SPOOL
from fleet.status import read_status

pytestmark = pytest.mark.broker


class Sender:
    """Devices of one plant on one connection: each keeps its reports until they are acknowledged, and sends them again
    when the monitor comes back or nothing moves."""

    def __init__(self, broker, speakers) -> None:
        self.speakers = {speaker.device: speaker for speaker in speakers}
        self.held = {speaker.device: {} for speaker in speakers}
        self.acks, self.alerts, self.fleet_online = 0, {}, None
        self.lock = threading.Lock()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe(
            [(f"{topics.ROOT}/down/+/ack", 0), (topics.FLEET_STATE, 1), (f"{topics.ROOT}/fleet/alert/#", 1)]
        )
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def _on_message(self, _client, _data, message) -> None:
        if message.topic == topics.FLEET_STATE:
            self.fleet_online = decode(message.payload, State).online
            if self.fleet_online:
                self.resend()
        elif "/fleet/alert/" in message.topic:
            self.alerts[message.topic.rpartition("/")[2]] = message.payload
        else:
            device = message.topic.split("/")[3]
            ack = decode(message.payload, Ack)
            assert ack.epoch == self.speakers[device].epoch
            with self.lock:
                self.acks += 1
                self.held[device] = {k: v for k, v in self.held[device].items() if k > ack.sequence}

    def send(self, look="healthy") -> None:
        """One new report of each device."""
        for device, speaker in self.speakers.items():
            report = speaker.report(look)
            message = speaker.message(report)
            with self.lock:
                self.held[device][report.sequence] = message
            self.client.publish(message.topic, message.payload, qos=0)

    def resend(self) -> None:
        """Everything that is not acknowledged, oldest first."""
        with self.lock:
            messages = [m for held in self.held.values() for _, m in sorted(held.items())]
        for message in messages:
            self.client.publish(message.topic, message.payload, qos=0)

    @property
    def waiting(self) -> int:
        with self.lock:
            return sum(map(len, self.held.values()))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def serve(plant, mosquitto):
    """`serve(*options)` starts a monitor on the plant's store; all are ended after the test."""
    running = []

    def start(*options, broker=None, port="0"):
        command = [sys.executable, "-m", "fleet.cli", "serve", "--broker", broker or mosquitto.url]
        command += ["--store", plant.url, "--port", port, "--interval", "1", "--json", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def stored(engine):
    with engine.connect() as tx:
        return tx.execute(select(func.count(), func.coalesce(func.sum(REPORT.c.frames), 0))).one()


@pytest.mark.slow
def test_a_monitor_killed_during_ingest_loses_no_report(plant, mosquitto, serve, eventually):
    places = {f"cam-{k}": ("hall", "tin") for k in range(5)}
    engine = plant.open(places=places)
    speakers = [plant.speaker(device, model=k % 3, seed=k) for k, device in enumerate(places)]
    sender, rounds, kills = Sender(mosquitto, speakers), 220, 6
    monitor, killed = serve(), 0
    eventually(lambda: sender.fleet_online, 30)
    for number in range(rounds):
        sender.send()
        if number % 36 == 35 and killed < kills:
            seen = sender.acks
            eventually(lambda seen=seen: sender.acks > seen or not sender.waiting, 30)
            sender.send()
            os.kill(monitor.pid, signal.SIGKILL)
            monitor.wait()
            killed += 1
            for _ in range(3):
                sender.send()
            monitor = serve()
    eventually(lambda: sender.fleet_online, 30)

    def delivered():
        if sender.waiting:
            threading.Event().wait(0.5)
            sender.resend()
        return not sender.waiting

    eventually(delivered, 60)
    monitor.terminate()
    assert monitor.wait(20) == 0
    sender.close()
    sent = sum(speaker.sequence for speaker in speakers)
    assert killed == kills and sent >= 1000
    assert stored(engine) == (sent, sum(speaker.sent_frames for speaker in speakers))
    with engine.connect() as tx:
        windows = {r.device: json.loads(r.reading)["windows"] for r in tx.execute(select(DETECTOR))}
        contiguous = {row.device: (row.contiguous, row.missing) for row in tx.execute(select(SPOOL))}
    assert windows == {speaker.device: speaker.sequence for speaker in speakers}, "the detector saw each once"
    assert contiguous == {speaker.device: (speaker.sequence, 0) for speaker in speakers}


def test_alerts_are_printed_and_retained_and_taken_away(plant, mosquitto, serve, eventually):
    engine = plant.open(places={"cam-1": ("hall", "tin")})
    sender = Sender(mosquitto, [plant.speaker("cam-1", seed=1)])
    monitor = serve()
    eventually(lambda: sender.fleet_online, 30)
    for look in ["healthy"] * 30 + ["dirty"] * 40:
        sender.send(look)
    line = json.loads(monitor.stdout.readline())
    assert line["change"] == "opened" and line["alert"]["scope"] == "cam-1"
    eventually(lambda: sender.alerts.get(line["alert"]["id"]), 10)
    assert msgspec.json.decode(sender.alerts[line["alert"]["id"]])["site"] == "hall"
    acknowledge = [sys.executable, "-m", "fleet.cli", "alerts", "ack", line["alert"]["id"], "--store", plant.url]
    assert subprocess.run(acknowledge, check=False, capture_output=True).returncode == 0
    eventually(lambda: sender.alerts[line["alert"]["id"]] == b"", 10)
    monitor.send_signal(signal.SIGINT)
    assert monitor.wait(20) == 0
    eventually(lambda: sender.fleet_online is False, 10)
    sender.close()
    with engine.connect() as tx:
        assert tx.scalar(select(func.count()).select_from(REPORT)) == 70


def test_a_broker_that_comes_later_is_found_and_until_then_the_status_says_so(plant, mosquitto, serve, eventually):
    engine = plant.open()

    def trouble():
        with engine.connect() as tx:
            return read_status(tx, time.time_ns() // 1_000_000).trouble

    mosquitto.kill()
    monitor = serve()
    lines = [monitor.stderr.readline() for _ in range(2)]
    assert any("no broker answers here; trying again" in line for line in lines)
    eventually(lambda: "has had no broker since" in trouble(), 10)
    mosquitto.start()
    sender = Sender(mosquitto, [plant.speaker("cam-1")])
    eventually(lambda: sender.fleet_online, 30)
    sender.send()
    eventually(lambda: not sender.waiting, 10)
    eventually(lambda: trouble() == "", 10)
    monitor.terminate()
    assert monitor.wait(20) == 0 and "was ended at" in trouble()
    sender.close()


def test_a_broker_of_the_old_protocol_is_spoken_to(plant, amqtt_broker, eventually):
    plant.open()
    sender = Sender(amqtt_broker, [plant.speaker("cam-1")])
    command = [sys.executable, "-m", "fleet.cli", "serve", "--broker", amqtt_broker.url, "--store", plant.url]
    monitor = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: sender.fleet_online, 30)
        sender.send()
        eventually(lambda: not sender.waiting, 10)
    finally:
        monitor.terminate()
        assert monitor.wait(20) == 0
        sender.close()


def test_a_second_monitor_on_a_store_is_refused(plant, serve):
    plant.open()
    first = serve()
    assert "watching" in first.stderr.readline()
    second = serve()
    assert second.wait(20) == 1
    (line,) = second.stderr.read().splitlines()
    assert "another monitor serves this store" in line


def test_a_taken_port_is_refused_before_anything_starts(plant, serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monitor = serve(port=port)
        assert monitor.wait(20) == 1
    (line,) = monitor.stderr.read().splitlines()
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in line and monitor.stdout.read() == ""


def test_a_bad_broker_url_is_one_line(plant, serve):
    monitor = serve(broker="localhost")
    assert monitor.wait(20) == 1
    (line,) = monitor.stderr.read().splitlines()
    assert "must read like mqtt://host:1883" in line
    assert not (plant.folder / "fleet.db").exists()
