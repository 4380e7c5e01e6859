"""A candidate beside the model that serves: idle time only, every k-th frame, and never in anybody's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from device_agent.classify import Prediction
from device_agent.contract.bundle import read_bundle
from device_agent.contract.codec import encode
from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.report import DeviceReport, read_report
from device_agent.frames import Frame
from device_agent.salvage import open_spool
from device_agent.shadow import Candidate, Understudy, open_candidate

MakeBundle = Callable[..., Path]
EVERY, GAP_NS = 3, 100_000_000


class Says:
    """A runtime that names one class for each frame in turn, and takes its time."""

    name, version, classes = "says", "", 3

    def __init__(self, clock: Any, labels: list[int], *, took_s: float = 0.01) -> None:
        self._clock, self._labels, self._took_s, self.closed = clock, iter(labels), took_s, False

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        return image

    def invoke(self, _tensor: NDArray[Any]) -> NDArray[np.float32]:
        label = next(self._labels, None)
        if label is None:
            raise BadInput("the delegate gave up")
        self._clock.pass_s(self._took_s)
        return np.eye(3, dtype=np.float32)[label] * 8

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def artifact(make_bundle: MakeBundle) -> Any:
    """An artifact's manifest."""
    return read_bundle(make_bundle()).manifest.artifacts[0]


@pytest.fixture
def watch(artifact: Any, clock: Any) -> Callable[..., Understudy]:
    """An understudy that serves beside `artifact`; `said` of it collects events."""

    def make(labels: list[int], *, every: int = EVERY, took_s: float = 0.01) -> Understudy:
        said: list[tuple[str, str]] = []
        runtime = Says(clock, labels, took_s=took_s)
        understudy = Understudy(
            Candidate(runtime, artifact), 3, every, clock=clock, event=lambda kind, text: said.append((kind, text))
        )
        understudy.follow(artifact)
        understudy.said, understudy.runtime = said, runtime  # type: ignore[attr-defined]
        return understudy

    return make


def see(book: Any, clock: Any, label: int, *, step_ns: int = GAP_NS) -> None:
    """A frame comes and is answered at once."""
    clock.now_ns += step_ns - clock.now_ns % step_ns
    image = np.zeros((64, 64, 3), np.uint8)
    book.offer(Frame(image, stamp=0, captured_ns=clock.now_ns), Prediction(label, 0.99, 4.6, 11))


def test_every_kth_frame_is_answered_and_told_with_the_class_that_was_served(watch: Any, clock: Any) -> None:
    understudy = watch([1, 2, 0])
    book = understudy.book()
    for frame in range(9):
        see(book, clock, label=1)
        assert understudy.ready(clock.now_ns) is (frame % EVERY == EVERY - 1)
        if understudy.ready(clock.now_ns):
            understudy.work()
    shadow = book.close_interval()
    assert (shadow.frames, shadow.agreed) == (3, 1)
    assert shadow.matrix == [3, 1, 4, 1, 5, 1]
    assert sum(shadow.cells[1::2]) == sum(shadow.latency[1::2]) == 3
    shadow.check(3)
    assert book.close_interval() is None


def test_it_waits_where_it_would_be_in_the_way_of_the_next_frame(watch: Any, clock: Any) -> None:
    understudy = watch([1] * 10, every=1, took_s=0.08)
    book = understudy.book()
    see(book, clock, label=1)
    see(book, clock, label=1)
    understudy.work()
    see(book, clock, label=1)
    assert understudy.ready(clock.now_ns)
    clock.pass_s(0.03)
    assert not understudy.ready(clock.now_ns), "80 ms do not fit into the 70 that are left"


def test_the_earliest_frame_of_several_cameras_counts(watch: Any, clock: Any) -> None:
    understudy = watch([1] * 10, every=1, took_s=0.08)
    slow, fast = understudy.book(), understudy.book()
    for _ in range(3):
        see(slow, clock, label=1, step_ns=10 * GAP_NS)
    understudy.work()
    see(slow, clock, label=1)
    assert understudy.ready(clock.now_ns)
    for _ in range(20):
        see(fast, clock, label=1, step_ns=GAP_NS // 4)
    fast.kept = None
    assert slow.kept is not None and not understudy.ready(clock.now_ns)
    clock.pass_s(0.06)
    assert not understudy.ready(clock.now_ns), "a frame that is overdue comes at any moment"
    clock.pass_s(6.0)
    see(slow, clock, label=1, step_ns=10 * GAP_NS)
    assert understudy.ready(clock.now_ns), "a camera that is gone holds nobody up"


def test_a_part_that_is_overdue_is_always_waited_for(watch: Any, clock: Any) -> None:
    understudy = watch([1] * 10, every=1, took_s=0.08)
    book = understudy.book(triggered=True)
    for part, gap_s in enumerate((0.5, 0.3, 0.9)):
        clock.pass_s(gap_s)
        image = np.zeros((64, 64, 3), np.uint8)
        book.offer(Frame(image, stamp=part, captured_ns=clock.now_ns, part=part), Prediction(1, 0.99, 4.6, 11))
    assert understudy.ready(clock.now_ns)
    understudy.work()
    clock.pass_s(0.3)
    book.kept = (Frame(image, stamp=9, captured_ns=0, part=9), Prediction(1, 0.99, 4.6, 11))
    assert not understudy.ready(clock.now_ns), "the shortest gap was 0.3 s, and 0.38 s are gone"
    clock.pass_s(60.0)
    assert not understudy.ready(clock.now_ns)


def test_a_line_without_idle_time_is_told_once(watch: Any, clock: Any) -> None:
    understudy = watch([1] * 10, every=1)
    book = understudy.book()
    for _ in range(500):
        see(book, clock, label=1)
    assert [kind for kind, _ in understudy.said] == ["shadow_starved"]
    assert book.close_interval() is None


def test_one_that_fails_is_told_once_and_asked_no_more(watch: Any, clock: Any) -> None:
    understudy = watch([1], every=1)
    book = understudy.book()
    for _ in range(5):
        see(book, clock, label=1)
        if understudy.ready(clock.now_ns):
            understudy.work()
    assert [kind for kind, _ in understudy.said] == ["shadow_failed"]
    assert "the delegate gave up" in understudy.said[0][1]
    assert book.close_interval().frames == 1
    understudy.close()
    assert understudy.runtime.closed


def test_frames_for_another_input_are_not_for_it(watch: Any, clock: Any, artifact: Any) -> None:
    understudy = watch([1] * 9, every=1)
    book = understudy.book()
    see(book, clock, label=1)
    other = msgspec.structs.replace(artifact, input=msgspec.structs.replace(artifact.input, height=32))
    understudy.follow(other)
    see(book, clock, label=1)
    assert not understudy.ready(clock.now_ns)
    understudy.follow(artifact)
    assert not understudy.ready(clock.now_ns), "what was kept was served by another model"
    see(book, clock, label=1)
    assert understudy.ready(clock.now_ns)


def test_a_candidate_must_fit_what_is_served(make_bundle: MakeBundle, tmp_path: Path) -> None:
    served = read_bundle(make_bundle()).manifest
    with pytest.raises(BadInput, match="is the model that serves; name the bundle of another one"):
        open_candidate(tmp_path / "steel.lineside", tmp_path, served.labels, served.artifacts)
    others = [msgspec.structs.replace(one, temperature=one.temperature + 1) for one in served.artifacts]
    with pytest.raises(BadInput, match="must have the labels"):
        open_candidate(tmp_path / "steel.lineside", tmp_path, served.labels[::-1], others)
    small = msgspec.structs.replace(others[0], input=msgspec.structs.replace(others[0].input, width=32))
    with pytest.raises(BadInput, match="no artifact takes the frames that are served, 32 x 64"):
        open_candidate(tmp_path / "steel.lineside", tmp_path, served.labels, [small])
    with pytest.raises(NotFound):
        open_candidate(tmp_path / "none.lineside", tmp_path, served.labels, others)
    candidate = open_candidate(tmp_path / "steel.lineside", tmp_path, served.labels, others)
    assert candidate.artifact == served.artifacts[0]
    candidate.runtime.close()


def test_a_report_with_a_shadow_is_read(make_report: Callable[..., DeviceReport], watch: Any, clock: Any) -> None:
    understudy = watch([2], every=1)
    book = understudy.book()
    see(book, clock, label=2)
    understudy.work()
    report = make_report(20, shadow=book.close_interval())
    assert read_report(encode(report)) == report


def test_a_real_agent_reports_what_both_models_said(make_bundle: MakeBundle, tmp_path: Path) -> None:
    served, candidate = make_bundle(), make_bundle(temperature=2.0, name="candidate")
    ids = [artifact.model_id for artifact in read_bundle(candidate).manifest.artifacts]
    done = agent(tmp_path, served, 'bundle = "candidate.lineside"\nevery = 4')
    assert done.returncode == 0, done.stderr
    reports = spooled(tmp_path / "state")
    shadows = [report.shadow for report in reports if report.shadow is not None]
    assert sum(report.frames for report in reports) == 40
    assert shadows and all(shadow.model == ids[0] for shadow in shadows)
    assert 1 <= sum(shadow.frames for shadow in shadows) <= 10
    assert all(shadow.agreed == shadow.frames for shadow in shadows), "a temperature changes no class"
    assert "one frame of 4" in done.stderr


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('bundle = "none.lineside"', "none.lineside: no such file"),
        ('bundle = "steel.lineside"', "is the model that serves"),
    ],
)
def test_a_candidate_that_cannot_be_used_stops_no_line(
    make_bundle: MakeBundle, tmp_path: Path, table: str, said: str
) -> None:
    done = agent(tmp_path, make_bundle(), table)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "shadow_failed" in line]
    assert said in line
    assert sum(report.frames for report in spooled(tmp_path / "state")) == 40


def agent(folder: Path, bundle: Path, table: str) -> subprocess.CompletedProcess[str]:
    config = folder / "agent.toml"
    head = f'bundle = "{bundle}"\nstate = "state"\ndevice = "press-1"\ninterval = 0.5\n'
    config.write_text(f'{head}source = "synthetic:frames=40,size=64,fps=40"\n[shadow]\n{table}\n')
    command = [sys.executable, "-m", "device_agent", "run", "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def spooled(state: Path) -> list[DeviceReport]:
    spool = open_spool(state, lambda *_: None)
    reports = [read_report(row.payload) for row in spool.pending(limit=-1)]
    spool.close()
    return reports
