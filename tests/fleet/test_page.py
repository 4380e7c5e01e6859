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
from fleet.overview import Asked
from fleet.web.charts import classes, confidence, latency, quality, score
from fleet.web.hosts import OwnHosts
from fleet.web.table import Reader


@pytest.fixture
def others():
    """Places of further devices, which never spoke."""
    return {}


@pytest.fixture
def address(plant, others, free_port, eventually):
    """A page over a store with one dirty device."""
    engine = plant.open(places={"cam-1": ("hall", "tin"), **others})
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


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("others", [{f"press-{k:03}": (f"hall-{k % 4}", "lid") for k in range(119)}])
def test_people_find_one_device_of_many(address, page):
    page.goto(address)
    page.get_by_text("1 to 50 of 120").wait_for()
    rows = page.locator("tbody a")
    assert rows.count() == 50 and rows.first.inner_text() == "cam-1", "the worst first"
    page.locator("button", has_text="chevron_right").click()
    page.get_by_text("51 to 100 of 120").wait_for()
    page.get_by_placeholder("Find a device").fill("PRESS-11")
    page.get_by_text("1 to 9 of 9").wait_for()
    assert all(name.startswith("press-11") for name in rows.all_inner_texts())
    page.get_by_placeholder("Find a device").fill("")
    page.get_by_text("1 to 50 of 120").wait_for()
    page.locator(".ls-site", has_text="hall-2").click()
    page.get_by_text("1 to 30 of 30").wait_for()
    page.locator(".ls-controls .q-btn", has_text="hall-2").click()
    page.get_by_text("1 to 50 of 120").wait_for()
    page.locator(".ls-controls .q-select").first.click()
    page.get_by_text("With alerts", exact=True).click()
    page.get_by_text("1 to 1 of 1").wait_for()
    rows.first.click()
    page.get_by_text("7 days").click()
    page.get_by_text("Evidence of drift").wait_for()
    assert page.errors == []


def test_a_store_is_read_once_for_all_pages_that_ask_the_same():
    class Counting(Reader):
        times = 0

        async def _read(self, asked, fresh_s):
            self.times += 1
            await asyncio.sleep(0)
            self._last[asked] = (clock() + fresh_s, self._last[asked][1])
            return asked

    now = [0.0]
    clock = lambda: now[0]  # noqa: E731
    reader = Counting(None, clock)

    async def visit():
        first = [reader.read(Asked(), fresh_s=2.0) for _ in range(5)]
        await asyncio.gather(*first, reader.read(Asked(search="x"), fresh_s=2.0))
        assert reader.times == 2
        now[0] = 1.9
        await reader.read(Asked(), fresh_s=2.0)
        assert reader.times == 2
        now[0] = 2.1
        await reader.read(Asked(), fresh_s=2.0)
        assert reader.times == 3

    asyncio.run(visit())


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
