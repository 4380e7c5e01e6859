"""The capture process: frames arrive whole, and whatever happens to the process, they arrive again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.contract.errors import LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.frames import Frame, FrameSource, SourceEnded, parse_source
from device_agent.frames.capture import _CHILD, Capture
from device_agent.frames.child import Order, Tempo, deliver, write_order
from device_agent.frames.mailbox import Mailbox

SPEC = InputSpec(height=32, width=48)
Eventually = Callable[..., object]


def image(level: int) -> np.ndarray:
    return np.full((32, 48, 3), level, np.uint8)


def test_the_latest_frame_wins_and_is_taken_once() -> None:
    box = Mailbox(SPEC)
    assert box.take() is None
    box.put(Frame(image(1), 0, 10))
    box.put(Frame(image(2), 1, 20, 5, 1.5, 2.5))
    taken = box.take()
    assert taken is not None and (taken.image == image(2)).all()
    assert taken[1:6] == (1, 20, 5, 1.5, 2.5)
    assert box.take() is None
    box.close()


def test_a_frame_that_is_not_finished_is_not_seen() -> None:
    box = Mailbox(SPEC)
    box.put(Frame(image(1), 0, 10))
    box._memory[0] += 1  # a writer that was killed within a frame
    assert box.take() is None
    box._memory[0] += 1
    box._memory[-1] ^= 1  # or whose bytes came in another order
    assert box.take() is None
    box.close()


def test_no_frame_is_torn_while_both_work() -> None:
    spec = InputSpec(height=256, width=256)
    box, writer = Mailbox(spec), "import sys, numpy as np\n"
    writer += (
        "from device_agent.contract.manifest import InputSpec\n"
        "from device_agent.frames import Frame\n"
        "from device_agent.frames.mailbox import Mailbox\n"
        "box = Mailbox(InputSpec(height=256, width=256), int(sys.argv[1]))\n"
        "for k in range(1500): box.put(Frame(np.full((256, 256, 3), k % 251, np.uint8), k, 0))\n"
    )
    with subprocess.Popen([sys.executable, "-c", writer, str(box.descriptor)], pass_fds=(box.descriptor,)) as process:
        seen: list[int] = []
        while process.poll() is None:
            frame = box.take()
            if frame is not None:
                assert (frame.image == frame.stamp % 251).all()
                seen.append(frame.stamp)
    assert process.returncode == 0
    assert len(seen) > 20 and seen == sorted(set(seen))
    box.close()


class Listed:
    """A source of numbered frames."""

    def __init__(self, count: int, *, live: bool, fps: float | None, clock: Callable[[], int], took_ns: int) -> None:
        self.live, self.fps, self._left, self._clock, self._took = live, fps, iter(range(count)), clock, took_ns

    def read(self) -> Frame:
        stamp = next(self._left, None)
        if stamp is None:
            raise SourceEnded
        self._clock.pass_s(self._took / 1e9)  # type: ignore[attr-defined]
        return Frame(image(stamp), stamp, self._clock())

    def close(self) -> None:
        pass


def delivered(source: FrameSource, clock: Callable[[], int]) -> tuple[list[Frame], int, list[float]]:
    frames: list[Frame] = []
    asks: list[None] = []
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        clock.pass_s(seconds)  # type: ignore[attr-defined]

    with pytest.raises(SourceEnded):
        deliver(source, SPEC, frames.append, asked=lambda: asks.append(None), first_stamp=7, clock=clock, wait=wait)
    return frames, len(asks), waits


def test_a_folder_waits_for_its_reader(clock: Callable[[], int]) -> None:
    frames, asks, waits = delivered(Listed(5, live=False, fps=None, clock=clock, took_ns=1_000_000), clock)
    assert ([frame.stamp for frame in frames], asks, waits) == ([7, 8, 9, 10, 11], 5, [])
    assert frames[0].capture_us == pytest.approx(1000)


def test_a_paced_source_keeps_its_rate(clock: Callable[[], int]) -> None:
    frames, asks, _ = delivered(Listed(20, live=False, fps=10, clock=clock, took_ns=1_000_000), clock)
    steps = np.diff([frame.captured_ns for frame in frames]) / 1e9
    assert asks == 0 and np.allclose(steps, 0.1)


def test_a_live_camera_is_thinned(clock: Callable[[], int]) -> None:
    frames, _, waits = delivered(Listed(90, live=True, fps=10, clock=clock, took_ns=33_333_333), clock)
    assert waits == [] and 28 <= len(frames) <= 31


def test_a_source_that_fell_behind_does_not_burst(clock: Callable[[], int]) -> None:
    tempo = Tempo(10, clock, lambda seconds: clock.pass_s(seconds))  # type: ignore[attr-defined]
    tempo.keep()
    clock.pass_s(5)  # type: ignore[attr-defined]
    start, times = clock(), []
    for _ in range(6):
        tempo.keep()
        times.append((clock() - start) / 1e9)
    assert times[-1] >= 0.29


@pytest.fixture
def heard() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def begin(heard: list[tuple[str, str]]) -> Iterator[Callable[..., Capture]]:
    started: list[Capture] = []

    def start(source: str, **kwargs: float) -> Capture:
        started.append(Capture(parse_source(source), SPEC, event=lambda *one: heard.append(one), **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for capture in started:
        capture.close()


def next_frame(capture: Capture, timeout_s: float = 20.0) -> Frame:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        frame = capture.next(0.1)
        if frame is not None:
            return frame
    raise AssertionError("no frame came")


def test_every_frame_of_a_source_that_waits_arrives(begin: Callable[..., Capture]) -> None:
    capture = begin("synthetic:frames=25,seed=1")
    frames = [next_frame(capture) for _ in range(25)]
    assert [frame.stamp for frame in frames] == list(range(25))
    assert frames[0].image.shape == (32, 48, 3) and len({frame.image.tobytes() for frame in frames}) == 25
    with pytest.raises(SourceEnded):
        for _ in range(100):
            capture.next(0.1)


def test_the_address_of_a_source_is_no_argument_that_others_can_read(begin: Callable[..., Capture]) -> None:
    capture = begin("synthetic:frames=25,seed=104729")
    next_frame(capture)
    assert capture._child is not None
    assert "104729" not in " ".join(map(str, capture._child.process.args))  # type: ignore[arg-type]


def test_a_folder_whose_name_is_no_utf8_works(begin: Callable[..., Capture], tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    folder = tmp_path / os.fsdecode(b"shots-\xff")
    folder.mkdir()
    (folder / "a.png").write_bytes(bytes(cv2.imencode(".png", image(9))[1]))
    assert (next_frame(begin(f"folder:{folder}")).image == 9).all()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("camera:99999999999999999999", "must be a number from 0 to 9999"),
        (os.fsdecode(b"folder:/no/such/\xff"), r"\\udcff is no folder"),
        ("folder:/no/such\nfolder" + "x" * 5000, "source folder: /no/such folderx"),
    ],
)
def test_what_no_retry_can_mend_ends_the_capture(
    begin: Callable[..., Capture], heard: list[tuple[str, str]], source: str, said: str
) -> None:
    with pytest.raises(LinesideError, match=said) as ended:
        next_frame(begin(source))
    assert heard == [] and "\n" not in str(ended.value)


def test_an_error_of_the_capture_process_ends_the_capture(
    begin: Callable[..., Capture], heard: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("1 / 0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(LinesideError, match="by an error in this program: ZeroDivisionError: division by zero"):
        next_frame(begin("camera:0"))
    assert heard == []


def test_a_source_that_cannot_be_opened_says_why(begin: Callable[..., Capture], tmp_path: Path) -> None:
    capture = begin(f"folder:{tmp_path}")
    with pytest.raises(LinesideError, match="holds no images"):
        next_frame(capture)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_hung_process_is_replaced(
    begin: Callable[..., Capture], heard: list[tuple[str, str]], number: signal.Signals
) -> None:
    capture = begin("synthetic:fps=50", silent_s=0.4)
    before = next_frame(capture)
    assert capture._child is not None
    first = capture._child.process
    os.kill(first.pid, number)
    while not heard:
        capture.next(0.05)
    after = next_frame(capture)
    assert [kind for kind, _ in heard] == ["camera_lost", "camera_found"]
    assert first.poll() is not None and after.stamp > before.stamp


def test_a_camera_that_is_not_there_is_lost_once_and_tried_again(
    begin: Callable[..., Capture], heard: list[tuple[str, str]]
) -> None:
    pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    capture = begin("camera:77")
    attempts: set[int] = set()
    while len(attempts) < 2:
        assert capture.next(0.05) is None
        attempts |= {capture._child.process.pid} if capture._child else set()
    assert heard == [("camera_lost", "camera: camera 77 cannot be opened")]


def test_the_process_ends_with_its_parent(eventually: Eventually) -> None:
    parent = (
        "from device_agent.frames import parse_source\n"
        "from device_agent.frames.capture import Capture\n"
        "from device_agent.contract.manifest import InputSpec\n"
        "capture = Capture(parse_source('synthetic:fps=20'), InputSpec(height=32, width=48), event=print)\n"
        "while capture.next(1) is None: pass\n"
        "print(capture._child.process.pid, flush=True)\n"
        "while True: capture.next(1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    eventually(lambda: not _runs(child), message="the capture process outlived its parent")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_server_that_accepts_and_is_silent_is_given_up(
    begin: Callable[..., Capture], heard: list[tuple[str, str]]
) -> None:
    pytest.importorskip("cv2", reason="package: opencv-python-headless not installed")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        capture = begin(f"http://127.0.0.1:{server.getsockname()[1]}/stream", open_s=1.0)
        began = time.monotonic()
        while not heard and time.monotonic() - began < 20:
            capture.next(0.1)
    assert heard and heard[0][0] == "camera_lost"


def test_a_child_whose_parent_is_killed_ends_without_a_word(tmp_path: Path) -> None:
    """Before it gave its order, and while frames pass."""
    done = subprocess.run(_CHILD, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    mailbox, tells = Mailbox(SPEC), os.pipe()
    asks = os.pipe()
    order = Order(
        source=parse_source("synthetic:size=64,fps=200"),
        spec=SPEC,
        first_stamp=0,
        mailbox=mailbox.descriptor,
        asks=asks[0],
        tells=tells[1],
    )
    os.close(tells[0])
    done = subprocess.run(
        _CHILD,
        input=write_order(order),
        pass_fds=(mailbox.descriptor, asks[0], tells[1]),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    mailbox.close()
    for descriptor in (*asks, tells[1]):
        os.close(descriptor)
