"""A network camera that is unplugged, hangs, or sends garbage: the agent says so, serves on, and finds it again."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet.chaos.bundle import write_fake_bundle
from fleet.chaos.programs import python

pytestmark = pytest.mark.slow


class Camera:
    """MJPEG over HTTP; `mode` is good, garbage, silent or gone, and may change at any time."""

    def __init__(self) -> None:
        cv2 = pytest.importorskip("cv2", reason="package: opencv not installed")
        import numpy as np

        rng = np.random.default_rng(0)
        noise = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(8)]
        self.pictures = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in noise]
        self.mode, self.ended = "good", False
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.serve(self)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/live"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        if self.mode == "gone":
            handler.close_connection = True
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        try:
            for number in range(10**9):
                while self.mode == "silent" and not self.ended:
                    time.sleep(0.05)
                if self.ended or self.mode == "gone":
                    return
                picture = self.pictures[number % len(self.pictures)] if self.mode == "good" else os.urandom(900)
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                handler.wfile.write(head.encode() + picture + b"\r\n")
                time.sleep(0.05)
        except OSError:
            return

    def close(self) -> None:
        self.ended = True
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    yield camera
    camera.close()


@pytest.mark.parametrize("fault", ["gone", "silent", "garbage"])
def test_a_camera_that_fails_is_lost_within_seconds_and_found_again(
    camera: Camera, fault: str, tmp_path: Path, eventually: Callable[..., object]
) -> None:
    write_fake_bundle(tmp_path / "fake.lineside")
    journal, answers = tmp_path / "journal", tmp_path / "answers"
    command = python("device_agent", "run", "--bundle", str(tmp_path / "fake.lineside"), "--device", "press-1")
    command += ["--state", str(tmp_path / "state"), "--source", camera.url, "--verdicts", "-", "--interval", "0.5"]
    with journal.open("wb") as log, answers.open("wb") as out:
        agent = subprocess.Popen(command, stdout=out, stderr=log, stdin=subprocess.DEVNULL)

    def answered() -> int:
        return answers.read_bytes().count(b"\n")

    try:
        eventually(lambda: answered() > 20, 60, message=journal.read_text())
        for outage in (1, 2):
            camera.mode = fault
            eventually(lambda: journal.read_text().count("camera_lost") == outage, 15)  # noqa: B023
            camera.mode = "good"
            eventually(lambda: journal.read_text().count("camera_found") == outage, 40)  # noqa: B023
            seen = answered()
            eventually(lambda: answered() > seen + 10, 30)  # noqa: B023
        assert agent.poll() is None
        agent.terminate()
        assert agent.wait(20) == 0
    finally:
        agent.kill()
        agent.wait()
    assert "Traceback" not in journal.read_text()
