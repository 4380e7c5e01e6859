"""The page: JSON for programs, and what a person sees in a browser, without any address but its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError, URLError

import pytest

from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.launch import Page, listen
from fleet.web.charts import classes, confidence, latency, quality, score
from fleet.web.hosts import OwnHosts


@pytest.fixture
def address(plant, free_port, eventually):
    """A page over a store with one dirty device."""
    engine = plant.open(places={"cam-1": ("hall", "tin")})
    ingest, speaker = Ingest(engine, Settings(interval_ms=1000)), plant.speaker("cam-1", seed=2)
    for window in range(70):
        message = speaker.message(speaker.report("dirty" if window >= 40 else "healthy"))
        ingest.process(read_batch([message]), message.received_ms)
    with listen(Page("127.0.0.1", free_port)) as listener:
        command = [sys.executable, "-m", "fleet.web", str(listener.fileno()), plant.url]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    yield f"http://127.0.0.1:{free_port}"
    child.stdin.close()
    assert child.wait(10) == 0, "the page ends with the monitor"


def fetch(address, path):
    with urllib.request.urlopen(address + path, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_programs_get_json(address):
    assert fetch(address, "/healthz") == {"status": "ok"}
    (device,) = fetch(address, "/api/status")["devices"]
    (alert,) = fetch(address, "/api/alerts")
    assert device["alerts"] == [alert["id"]] and alert["severity"] == "critical"
    past = fetch(address, "/api/devices/cam-1")
    assert len(past["points"]) == 70 and past["labels"] == ["good", "scratch"]
    assert abs(sum(map(sum, past["seen"])) - 1) < 1e-9 and abs(sum(map(sum, past["normal"])) - 1) < 1e-9
    with pytest.raises(URLError, match="404"):
        fetch(address, "/api/devices/nobody")


@pytest.mark.slow
def test_a_page_of_somebody_else_reads_nothing(address):
    def answer(path, **headers):
        request = urllib.request.Request(address + path, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=30).status
        except HTTPError as error:
            return error.code

    port = address.rpartition(":")[2]
    assert [answer("/api/status", Host=f"{name}:{port}") for name in ("localhost", "10.1.2.3", "[::1]")] == [200] * 3
    assert answer("/api/status", Host="rebound.example") == answer("/", Host=f"10.1.2.3.example:{port}") == 400
    socket_path = "/_nicegui_ws/socket.io/?EIO=4&transport=polling"
    assert answer(socket_path, Origin=address) == 200 and answer(socket_path, Origin="http://other.example") == 400


def test_names_that_were_allowed_are_answered_whatever_their_case():
    async def ask(host):
        sent = []

        async def app(scope, receive, send):
            sent.append("answered")

        async def send(message):
            sent.append(message.get("status"))

        scope = {"type": "http", "headers": [(b"host", host.encode())]}
        await OwnHosts(app, ["Monitor.Plant:8080"])(scope, None, send)
        return sent[0]

    machine = socket.gethostname().partition(".")[0]
    hosts = ("monitor.plant", "MONITOR.PLANT.:8080", f"{machine}.local:8080", "monitor.plant.example", "")
    assert [asyncio.run(ask(host)) for host in hosts] == ["answered"] * 3 + [400] * 2


@pytest.mark.slow
@pytest.mark.browser
def test_people_see_devices_histograms_and_alerts(address, page):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.get_by_text("Devices online").wait_for()
    assert page.locator("table a").all_inner_texts() == ["cam-1"]
    assert page.locator("td .ls-badge-critical").inner_text() == "critical"
    page.locator("table a").click()
    page.get_by_text("Evidence of drift").wait_for()
    page.locator("canvas").nth(4).wait_for()
    assert "lens: dirt or focus" in page.locator(".ls-alert").first.inner_text()
    assert "ls-alert" in page.evaluate("document.querySelector('.ls-alert, canvas').className"), "before the charts"
    page.get_by_text("steel litert-int8").wait_for()
    page.get_by_text("No monitor has served this store yet.").wait_for()
    page.get_by_text("Alerts", exact=True).click()
    page.get_by_text("Open (1)").wait_for()
    assert page.errors == []
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {address.removeprefix("http://")}


def test_charts_can_be_drawn_of_nothing():
    for make in (classes, confidence, latency, quality, score):
        assert make(None)["series"][0]["type"] in ("bar", "line")


@pytest.mark.slow
@pytest.mark.broker
def test_a_killed_monitor_takes_its_page_along(plant, mosquitto, free_port, eventually):
    plant.open()
    command = [sys.executable, "-m", "fleet.cli", "serve", "--broker", mosquitto.url, "--store", plant.url]

    def healthy():
        try:
            return fetch(f"http://127.0.0.1:{free_port}", "/healthz")
        except OSError:
            return None

    for _ in range(2):
        monitor = subprocess.Popen([*command, "--port", str(free_port)], stderr=subprocess.DEVNULL)
        try:
            eventually(healthy, 60)
        finally:
            os.kill(monitor.pid, signal.SIGKILL)
            monitor.wait()
    eventually(lambda: healthy() is None, 10)
