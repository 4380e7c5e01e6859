"""What loop, courier and journal say reaches page, metrics and watchdog, and nothing of that stops the agent."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from device_agent.classify import Prediction
from device_agent.frames import Frame
from device_agent.local.settings import MetricsSettings, PreviewSettings
from device_agent.service.last_end import MARKER
from device_agent.watched import ACKNOWLEDGED, STORED, Watched


@pytest.fixture
def said() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def make(tmp_path, said):
    """`make(preview=..., metrics=...)`: a Watched whose journal is `said`."""

    def watch(**ports) -> Watched:
        return Watched(
            lambda kind, text: said.append((kind, text)), device="press-1", state=tmp_path, interval_s=60.0, **ports
        )

    return watch


def test_without_settings_no_port_listens(make, monkeypatch):
    def forbidden(*_arguments):
        raise AssertionError("a port was opened")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    watched = make()
    with watched.open(watched.log):
        watched.log("serving", "steel")


def test_what_is_said_arrives(make, said):
    watched = make()
    with watched.open(watched.log):
        watched.log("camera_lost", "silent for 5 s")
        frame = Frame(np.zeros((4, 4, 3), np.uint8), 0, 0)
        watched.answered("press-1", frame, Prediction(0, 0.9, 2.0, 8), "pass", (1.0, 2.0, 3.0, 4.0))
        watched.noted("press-1", STORED, 1)
        watched.noted("press-1", ACKNOWLEDGED, 3)
        watched.camera("press-2")
        watched.log("camera_lost", "silent for 5 s", "press-2")
        watched.progress.courier()
        watched.progress.tick()
        view = watched.lives["press-1"].view()
        assert watched.progress.check() == (True, "")
    assert said == [("camera_lost", "silent for 5 s"), ("camera_lost", "press-2: silent for 5 s")]
    assert view.gauges == {"camera_up": 1} and view.kinds == {"camera_lost": 1}
    assert [view.counters[name] for name in ("frames", "reports", "acknowledged")] == [1, 1, 3]
    assert set(view.ages_s) == {"frame", "report", "ack"}


def test_a_run_that_was_killed_is_an_event_of_the_next_one(make, said, tmp_path):
    killed = make().open(lambda *_: None)
    killed.__enter__()
    assert (tmp_path / MARKER).exists()
    watched = make()
    with watched.open(watched.log):
        assert said == [("restarted", "the last run ended by a crash, or somebody killed it")]
    with watched.open(watched.log):
        assert len(said) == 1


def test_an_end_by_an_error_is_an_orderly_one(make, tmp_path):
    watched = make()
    with pytest.raises(ZeroDivisionError), watched.open(watched.log):
        raise ZeroDivisionError
    assert not (tmp_path / MARKER).exists()


def test_a_port_is_open_for_the_time_of_the_run(make, said):
    watched = make(preview=PreviewSettings(listen="127.0.0.1:0"))
    with watched.open(watched.log):
        port = int(said[0][1].split(":")[2].partition("/")[0])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert [kind for kind, _ in said] == ["preview"]


def test_a_port_that_is_taken_or_a_token_that_is_none_stops_nothing(make, said, tmp_path):
    (tmp_path / "preview.token").write_text("nonsense")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        watched = make(preview=PreviewSettings(), metrics=MetricsSettings(listen=listen))
        with watched.open(watched.log):
            pass
    assert [kind for kind, _ in said] == ["local_refused"] * 2
    assert "preview.token" in said[0][1] and "address already in use" in said[1][1]


def test_systemd_hears_ready_once_it_serves_and_stopping_at_the_end(make, monkeypatch, tmp_path, make_bundle):
    from device_agent.contract.bundle import read_bundle
    from device_agent.rungs import Serving

    manifest = read_bundle(make_bundle()).manifest
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        watched = make()
        with watched.open(watched.log):
            watched.serves("press-1", Serving(None, manifest.artifacts[1], True), manifest)
        heard = [manager.recv(1000) for _ in range(3)]
    assert sorted(heard) == [b"READY=1\nSTATUS=steel as fake-int8", b"STOPPING=1", b"WATCHDOG=1"]
    assert watched.lives["press-1"].view().serving == ("fake-int8", "steel", ("good", "flaw1", "flaw2"), True)
