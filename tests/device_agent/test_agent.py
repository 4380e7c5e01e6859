"""The whole program: real processes, and a real broker where one is named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract import topics
from device_agent.contract.broker import parse_broker
from device_agent.contract.codec import SCHEMA, decode, encode
from device_agent.contract.errors import Unreachable
from device_agent.contract.report import DeviceReport, read_backfill, read_report
from device_agent.contract.session import Ack, Birth, State
from device_agent.mqtt import probe
from device_agent.salvage import open_spool

MakeBundle = Callable[..., Path]
Eventually = Callable[..., object]
AGENT = [sys.executable, "-m", "device_agent"]


class Monitor:
    """What the fleet does with reports, in small: keeps each once, acknowledges, and remembers the rest."""

    def __init__(self, port: int, *, acknowledges: bool = True) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.reports: dict[tuple[int, int], DeviceReport] = {}
        self.arrivals: Counter[tuple[int, int]] = Counter()
        self.live, self.backfilled, self.acknowledges = 0, 0, acknowledges
        self.births, self.states, self.events = list[Birth](), list[State](), list[bytes]()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="monitor")
        self._client.on_message = self._hear
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_connect = lambda client, *_: client.subscribe("lineside/1/up/#", qos=1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(10)

    def _hear(self, client: Any, _data: Any, message: Any) -> None:
        device, kind = topics.parse_up(message.topic)
        if kind == "birth":
            self.births.append(decode(message.payload, Birth))
        elif kind == "state":
            self.states.append(decode(message.payload, State))
        elif kind == "event":
            self.events.append(message.payload)
        if kind not in ("report", "backfill"):
            return
        reports = [read_report(message.payload)] if kind == "report" else read_backfill(message.payload)
        self.live += kind == "report"
        self.backfilled += kind == "backfill"
        for report in reports:
            self.reports[report.epoch, report.sequence] = report
            self.arrivals[report.epoch, report.sequence] += 1
        held = sorted(sequence for epoch, sequence in self.reports if epoch == reports[0].epoch)
        contiguous = next((k for k, sequence in enumerate(held) if sequence != k + 1), len(held))
        if self.acknowledges:
            client.publish(topics.down(device, "ack"), encode(Ack(SCHEMA, reports[0].epoch, contiguous)))

    @property
    def frames(self) -> int:
        return sum(report.frames for report in self.reports.values())

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Agent:
    """A running `lineside-agent run`, its lines on stderr collected."""

    def __init__(self, bundle: Path, state: Path, *more: str) -> None:
        command = [*AGENT, "run", "--bundle", str(bundle), "--state", str(state), "--device", "press-1"]
        self.process = subprocess.Popen(
            [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(line.rstrip() for line in self.process.stderr)

    def end(self, number: int | None = None, timeout_s: float = 30) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        return code


@pytest.fixture
def start(make_bundle: MakeBundle, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    bundle, running = make_bundle(), list[Agent]()

    def begin(*more: str) -> Agent:
        running.append(Agent(bundle, tmp_path / "state", *more))
        return running[-1]

    yield begin
    for agent in running:
        agent.process.kill()
        agent.process.wait()


def spooled(state: Path) -> list[DeviceReport]:
    spool = open_spool(state, lambda *_: None)
    reports = [read_report(row.payload) for row in spool.pending(limit=-1)]
    spool.close()
    return reports


def test_without_a_broker_it_serves_and_keeps(start: Callable[..., Agent], tmp_path: Path, free_port: int) -> None:
    agent = start(
        *("--source", "synthetic:seed=1,size=64", "--frames", "60", "--interval", "0.1", "--verdicts", "-"),
        *("--broker", f"mqtt://user:secret@127.0.0.1:{free_port}", "--log", "json"),
    )
    assert agent.process.stdout is not None
    out = agent.process.stdout.read()
    assert agent.end() == 0
    verdicts = [json.loads(line) for line in out.splitlines()]
    assert [one["frame"] for one in verdicts] == list(range(60))
    reports = spooled(tmp_path / "state")
    assert sum(report.frames for report in reports) == 60 and sum(report.dropped for report in reports) == 0
    events = [json.loads(line)["event"] for line in agent.lines]
    assert events.count("broker_unreachable") <= 1 and "serving" in events
    assert "secret" not in "\n".join(agent.lines)


def test_sigterm_puts_the_open_interval_into_the_spool(
    start: Callable[..., Agent], tmp_path: Path, eventually: Eventually
) -> None:
    agent = start("--source", "synthetic:size=64,fps=50", "--interval", "3600", "--verdicts", "-")
    assert agent.process.stdout is not None
    seen = [agent.process.stdout.readline() for _ in range(5)]
    assert agent.end(signal.SIGTERM, 10) == 0
    seen += agent.process.stdout.readlines()
    (report,) = spooled(tmp_path / "state")
    assert report.frames == len(seen) >= 5


def test_a_reader_of_verdicts_that_stops_or_goes_stops_nothing(
    start: Callable[..., Agent], eventually: Eventually
) -> None:
    stops = start("--source", "synthetic:size=32,seed=1", "--verdicts", "-", "--interval", "0.1")
    eventually(lambda: any("verdicts_dropped" in line for line in stops.lines), 60)
    assert stops.end(signal.SIGTERM, 10) == 0
    goes = start("--source", "synthetic:size=64,fps=50", "--verdicts", "-")
    assert goes.process.stdout is not None
    goes.process.stdout.readline()
    goes.process.stdout.close()
    eventually(lambda: any("verdicts_ended" in line for line in goes.lines), 20)
    assert goes.process.poll() is None
    assert goes.end(signal.SIGTERM, 10) == 0


def test_source_and_broker_come_from_the_environment_too(
    start: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("LINESIDE_SOURCE", "synthetic:frames=3")
    monkeypatch.setenv("LINESIDE_BROKER", f"mqtt://127.0.0.1:{free_port}")
    agent = start()
    assert agent.end() == 0
    assert "no_broker" not in "\n".join(agent.lines) and "serving" in "\n".join(agent.lines)


def test_ctrl_c_is_130_and_loses_nothing(start: Callable[..., Agent], tmp_path: Path) -> None:
    agent = start("--source", "synthetic:size=64,fps=50", "--interval", "3600", "--verdicts", "-")
    assert agent.process.stdout is not None
    agent.process.stdout.readline()
    assert agent.end(signal.SIGINT, 10) == 130
    assert sum(report.frames for report in spooled(tmp_path / "state")) >= 1


def test_a_kill_is_reported_as_a_gap(start: Callable[..., Agent], tmp_path: Path) -> None:
    agent = start("--source", "synthetic:size=64,fps=50", "--interval", "0.2", "--verdicts", "-")
    assert agent.process.stdout is not None
    for _ in range(40):
        agent.process.stdout.readline()
    agent.end(signal.SIGKILL)
    heard: list[str] = []
    spool = open_spool(tmp_path / "state", lambda kind, _: heard.append(kind))
    assert heard == ["gap"] and spool.pending()
    spool.close()


def test_bundles_that_nobody_uses_are_gone_after_the_start(start: Callable[..., Agent], tmp_path: Path) -> None:
    left = tmp_path / "state" / "bundles" / f".{'0' * 16}.0badcafe.part"
    left.mkdir(parents=True)
    assert start("--source", "synthetic", "--frames", "3").end() == 0
    assert not left.exists() and len(list(left.parent.iterdir())) == 1


def test_two_agents_on_one_state_folder(start: Callable[..., Agent]) -> None:
    first = start("--source", "synthetic:size=64,fps=20", "--verdicts", "-")
    assert first.process.stdout is not None
    first.process.stdout.readline()
    second = start("--source", "synthetic:size=64,fps=20")
    assert second.end() == 1
    assert "another agent uses this state folder" in second.lines[-1]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--source", "webcam:0"), 1, "source 'webcam:0'"),
        (("--source", "folder:/no/such/folder"), 1, "is no folder"),
        (("--source", "synthetic", "--broker", "http://x"), 1, "must read like mqtt://host:1883"),
        (("--source", "synthetic", "--artifact", "litert-int8"), 1, "it has fake-fp32, fake-int8"),
        (("--source", "synthetic:fps=5", "--fps", "7"), 1, "say the same thing"),
        (("--source", "synthetic", "--interval", "0"), 2, "--interval"),
        (("--source", "synthetic", "--interval", "nan"), 2, "--interval': nan is not a number"),
        (("--source", "synthetic", "--fps", "1e-310"), 2, "--fps"),
        (
            ("--source", "synthetic:fps=1e-310"),
            1,
            "source synthetic: fps=1e-310: expected `float` >= 0.01; options are",
        ),
        (("--source", "synthetic:fps=abc"), 1, "source synthetic: fps=abc: expected `float"),
        (("--source", "camera:0:fsp=3"), 1, "source camera:0: object contains unknown field `fsp`; options are fps"),
        (("--source", "camera:x"), 1, "source camera:x: must be a number from 0 to 9999"),
        (("--source", os.fsdecode(b"folder:/tmp/\xff")), 1, "is no folder"),
        (("--source", "camera:99999999999999999999"), 1, "must be a number from 0 to 9999"),
    ],
)
def test_wrong_options_are_one_line(
    start: Callable[..., Agent], options: tuple[str, ...], code: int, said: str
) -> None:
    agent = start(*options)
    assert agent.end() == code
    assert said in "\n".join(agent.lines) and "Traceback" not in "\n".join(agent.lines)


def test_a_damaged_bundle_is_exit_code_6(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)
    agent = Agent(bundle, tmp_path / "state", "--source", "synthetic")
    assert agent.end() == 6
    assert len(agent.lines) == 1 and not (tmp_path / "state" / "spool.db").exists()


def test_wrong_answers_are_exit_code_4(make_bundle: MakeBundle, tmp_path: Path) -> None:
    agent = Agent(make_bundle(wrong=("fp32", "int8")), tmp_path / "state", "--source", "synthetic")
    assert agent.end() == 4
    command = [*AGENT, "selftest", "--bundle", str(make_bundle(wrong=("int8",))), "--state", str(tmp_path / "state")]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert [(one["artifact"], one["ok"]) for one in json.loads(done.stdout)] == [
        ("fake-fp32", True),
        ("fake-int8", False),
    ]


def test_check_looks_at_everything_that_a_run_opens(make_bundle: MakeBundle, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'bundle = "{make_bundle()}"\nsource = "synthetic:size=64"\ndevice = "press-1"\nstate = "state"\n'
        'fleet_key = "signing.pub"\ntrigger = "gpio:17"\n[line]\nwebhook = "http://127.0.0.1:9/v"\n'
        'webhook_secret = "none.key"\n[samples]\nkey = "samples.pub"\n'
    )
    command = [*AGENT, "check", "--config", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    bad = {one["part"]: one["text"] for one in json.loads(done.stdout) if not one["ok"]}
    assert {"fleet key", "trigger", "line", "samples"} <= set(bad), bad
    assert "none.key" in bad["line"] and "signing.pub" in bad["fleet key"] and "samples.pub" in bad["samples"]


def test_the_bundle_alone_is_tested_whatever_cameras_there_are(make_bundle: MakeBundle, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        f'bundle = "{make_bundle()}"\nsource = "synthetic:size=64"\ndevice = "press-1"\nstate = "state"\n'
        'broker = "mqtts://127.0.0.1"\n[[camera]]\ndevice = "press-2"\nsource = "camera:1"\n'
        'cert = "a.pem"\nkey = "a.key"\n'
    )
    done = subprocess.run([*AGENT, "selftest", "--config", str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [("", "a service needs device"), ('device = "press-1"\ntrigger = "gpio:17"', "add --device gpio")],
)
def test_no_unit_is_written_for_what_cannot_run(make_bundle: MakeBundle, tmp_path: Path, line: str, said: str) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'bundle = "{make_bundle()}"\nsource = "synthetic:size=64"\n{line}\n')
    done = subprocess.run([*AGENT, "unit", "--config", str(config)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "") and said in done.stderr


def test_check_names_what_is_wrong(make_bundle: MakeBundle, tmp_path: Path, free_port: int) -> None:
    command = [*AGENT, "check", "--bundle", str(make_bundle()), "--state", str(tmp_path / "state"), "--json"]
    command += ["--source", "synthetic", "--device", "press-1", "--broker", f"mqtt://127.0.0.1:{free_port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    findings = {one["part"]: one for one in json.loads(done.stdout)}
    assert set(findings) == {"state", "runtimes", "bundle", "runtime", "permissions", "source", "broker", "clock"}
    assert [part for part, one in findings.items() if not one["ok"]] == ["broker"]
    assert findings["broker"]["fix"] and not (tmp_path / "state" / "spool.db").exists()


@pytest.mark.broker
def test_reports_arrive_once_and_the_spool_is_empty(
    start: Callable[..., Agent], tmp_path: Path, mosquitto: Any, eventually: Eventually
) -> None:
    monitor, url = Monitor(mosquitto.port), f"mqtt://127.0.0.1:{mosquitto.port}"
    agent = start(
        *("--source", "synthetic:size=64,seed=3,fps=100", "--frames", "400", "--interval", "0.3", "--broker", url)
    )
    assert agent.end() == 0
    eventually(lambda: monitor.states and not monitor.states[-1].online)
    kept = {(report.epoch, report.sequence): report for report in spooled(tmp_path / "state")}
    assert len(kept) <= 2, "only what was sent last may still wait for its acknowledgement"
    assert sum(report.frames for report in {**kept, **monitor.reports}.values()) == 400
    assert monitor.live > 5 and {count for key, count in monitor.arrivals.items() if key not in kept} == {1}
    birth = monitor.births[0]
    assert (birth.runtime, birth.labels, birth.interval_ms) == ("fake-fp32", ["good", "flaw1", "flaw2"], 300)
    assert [state.online for state in monitor.states] == [True, False]
    assert monitor.states[-1].reason == "stopped"
    live, again = monitor.live, start("--source", "synthetic:size=64,fps=50", "--interval", "0.3", "--broker", url)
    eventually(lambda: monitor.live > live + 3 and kept.keys() <= monitor.reports.keys(), 20)
    assert again.end(signal.SIGTERM) == 0
    assert not kept.keys() & {(report.epoch, report.sequence) for report in spooled(tmp_path / "state")}
    monitor.close()


@pytest.mark.broker
def test_a_broker_that_was_away_gets_everything(
    start: Callable[..., Agent], mosquitto: Any, eventually: Eventually
) -> None:
    mosquitto.kill()
    agent = start(
        *("--source", "synthetic:size=64,fps=50", "--interval", "0.2", "--verdicts", "-"),
        *("--broker", f"mqtt://127.0.0.1:{mosquitto.port}"),
    )
    assert agent.process.stdout is not None
    for _ in range(80):
        agent.process.stdout.readline()
    threading.Thread(target=agent.process.stdout.read, daemon=True).start()
    mosquitto.start()
    monitor = Monitor(mosquitto.port)
    eventually(lambda: monitor.live > 3, 20)
    sequences = sorted(sequence for _, sequence in monitor.reports)
    assert sequences[:5] == [1, 2, 3, 4, 5] and monitor.backfilled
    mosquitto.kill()
    mosquitto.start()
    monitor.close()
    again = Monitor(mosquitto.port)
    eventually(lambda: again.live > 3, 20)
    assert agent.end(signal.SIGTERM) == 0
    words = [line.split()[1] for line in agent.lines]
    assert words.count("broker_unreachable:") == 2 and words.count("broker_connected:") == 2
    again.close()


@pytest.mark.broker
def test_a_killed_agent_goes_offline_by_its_will(
    start: Callable[..., Agent], mosquitto: Any, eventually: Eventually
) -> None:
    monitor = Monitor(mosquitto.port)
    agent = start("--source", "synthetic:fps=20", "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--interval", "0.2")
    eventually(lambda: monitor.live, 20)
    agent.end(signal.SIGKILL)
    again = start("--source", "synthetic:fps=20", "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--interval", "0.2")
    eventually(lambda: len(monitor.births) == 2, 20)
    assert monitor.births[1].epoch != monitor.births[0].epoch
    assert monitor.births[1].boot == monitor.births[0].boot + 1
    assert monitor.states[-1].session > monitor.states[0].session
    eventually(lambda: any(b"gap" in event for event in monitor.events))
    assert again.end(signal.SIGTERM) == 0
    monitor.close()


@pytest.mark.broker
def test_a_broker_that_refuses_is_an_event_and_stops_nothing(
    start: Callable[..., Agent], mosquitto: Any, eventually: Eventually
) -> None:
    mosquitto.stop()
    mosquitto.config.write_text(mosquitto.config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    mosquitto.start()
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    agent = start("--source", "synthetic:fps=20", "--broker", url, "--interval", "0.5")
    eventually(lambda: any("not_authorized" in line for line in agent.lines), 20)
    assert agent.process.poll() is None
    assert agent.end(signal.SIGTERM) == 0
    with pytest.raises(Unreachable, match="refuses: not authorized"):
        probe(parse_broker(url), "press-1")


@pytest.mark.broker
def test_probe_speaks_mqtt_5_first(mosquitto: Any, free_port: int) -> None:
    assert probe(parse_broker(f"mqtt://127.0.0.1:{mosquitto.port}"), "press-1") == "5"
    with pytest.raises(Unreachable, match="does not answer"):
        probe(parse_broker(f"mqtt://127.0.0.1:{free_port}"), "press-1")


def test_a_broker_of_mqtt_3_only(start: Callable[..., Agent], amqtt_broker: Any, eventually: Eventually) -> None:
    monitor = Monitor(amqtt_broker.port)
    url = f"mqtt://127.0.0.1:{amqtt_broker.port}"
    assert probe(parse_broker(url), "press-9", timeout_s=1) == "3.1.1"
    agent = start("--source", "synthetic:size=64,fps=50", "--interval", "0.2", "--broker", url)
    eventually(lambda: monitor.live > 3 and monitor.births, 20)
    assert agent.end(signal.SIGTERM) == 0
    eventually(lambda: monitor.states and not monitor.states[-1].online)
    monitor.close()


def test_a_drawn_source_needs_no_opencv_and_the_main_process_never_does(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "cv2.py").write_text("raise ImportError('no OpenCV here', name='cv2')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))
    drawn = Agent(make_bundle(), tmp_path / "state", "--source", "synthetic:size=80", "--frames", "5")
    assert drawn.end() == 0
    filed = Agent(make_bundle(), tmp_path / "state", "--source", "camera:0", "--frames", "5")
    assert filed.end() == 1
    assert 'pip install "lineside[camera]"' in filed.lines[-1]


def test_help_imports_little() -> None:
    code = (
        "import sys\n"
        "from device_agent.cli import cli\n"
        "from click.testing import CliRunner\n"
        "for name in ('run', 'check', 'selftest', 'bench'):\n"
        "    assert 'Example' in CliRunner().invoke(cli, [name, '--help']).output\n"
        "print([name for name in ('numpy', 'cv2', 'paho', 'ai_edge_litert', 'sqlite3') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
