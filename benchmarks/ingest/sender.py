"""Devices that keep each report until it is acknowledged, as the protocol wants it, all on one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import paho.mqtt.client as mqtt
import plant
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.contract import topics
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.report import write_backfill
from device_agent.contract.session import Ack, Birth, State

WINDOW, TOGETHER = 64, 60
PATIENCE_S = 3.0
"""Without progress, before everything is sent again; the agent waits 30 to 360 s."""


class Sender:
    """`devices` of the benchmark's plant. `made` is the number of the last report of each; `resent` counts messages."""

    def __init__(self, port: int, devices: int, *, classes: int = 2, seed: int = 0) -> None:
        self._classes, self._seed, self.devices = classes, seed, devices
        self.made = self.resent = self.acks = 0
        self._lock = threading.Lock()
        self._held: list[dict[int, bytes]] = [{} for _ in range(devices)]
        self._moved_s = [time.monotonic()] * devices
        self._number = {plant.name(k): k for k in range(devices)}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        self._client.max_queued_messages_set(0)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def introduce(self) -> None:
        """The birth of every device, retained."""
        for device in range(self.devices):
            topic = topics.up(plant.name(device), "birth")
            self._client.publish(topic, encode(_birth(device)), qos=1, retain=True).wait_for_publish(10)

    def begin(self, pace_s: float) -> None:
        """Make a report of every device each `pace_s`, in a thread."""
        self._end.clear()
        self._thread = threading.Thread(target=self._run, args=(pace_s,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Make no more reports; what is held is still sent again when `remind` is called."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """End, and disconnect."""
        self.end()
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def waiting(self) -> int:
        """Reports that are not acknowledged."""
        with self._lock:
            return sum(map(len, self._held))

    def remind(self) -> None:
        """Send again what devices hold of which nothing was acknowledged for long."""
        now_s = time.monotonic()
        self._resend(lambda device: now_s - self._moved_s[device] > PATIENCE_S)

    def _run(self, pace_s: float) -> None:
        while not self._end.wait(pace_s):
            number = self.made + 1
            for device, (topic, payload) in enumerate(plant.minute(self.devices, number, self._classes, self._seed)):
                with self._lock:
                    self._held[device][number] = payload
                    full = len(self._held[device]) > WINDOW
                if not full:
                    self._client.publish(topic, payload, qos=0)
            self.made = number
            self.remind()

    def _resend(self, due: Callable[[int], bool]) -> None:
        with self._lock:
            held = [(k, sorted(one.items())[:WINDOW]) for k, one in enumerate(self._held) if one and due(k)]
            for device, _ in held:
                self._moved_s[device] = time.monotonic()
        for device, reports in held:
            name, payloads = plant.name(device), [payload for _, payload in reports]
            if len(payloads) < 3:
                messages = [(topics.up(name, "report"), payload) for payload in payloads]
            else:
                cut = [payloads[at : at + TOGETHER] for at in range(0, len(payloads), TOGETHER)]
                messages = [(topics.up(name, "backfill"), write_backfill(part)) for part in cut]
            for topic, payload in messages:
                self._client.publish(topic, payload, qos=0)
            self.resent += len(messages)

    def _on_connect(self, client: mqtt.Client, *_: object) -> None:
        client.subscribe([(f"{topics.ROOT}/down/+/ack", 0), (topics.FLEET_STATE, 1)])

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        if message.topic == topics.FLEET_STATE:
            if decode(message.payload, State).online:
                self._resend(lambda _device: True)
            return
        ack = decode(message.payload, Ack)
        device = self._number[message.topic.split("/")[3]]
        if ack.epoch != plant.epoch(device):
            return
        with self._lock:
            done = [number for number in self._held[device] if number <= ack.sequence]
            for number in done:
                del self._held[device][number]
            if done:
                self.acks += 1
                self._moved_s[device] = time.monotonic()


def _birth(device: int) -> Birth:
    return Birth(
        schema=SCHEMA,
        epoch=plant.epoch(device),
        boot=1,
        agent="bench",
        model=plant.MODEL,
        model_name="bench",
        labels=[],
        runtime="litert-int8",
        interval_ms=plant.INTERVAL_MS,
    )
