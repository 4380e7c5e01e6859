"""A runtime in a process of its own: the same answers, and every way to go wrong is one sentence in bounded time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.contract.errors import BadInput, LinesideError, MissingPackage, NotFound, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import logits, open_here, open_runtime
from device_agent.runtimes.fenced import Fenced

MODELS = Path(__file__).parents[2] / "data" / "models"
SPEC = InputSpec(height=8, width=8)
IMAGE = np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8)

Open = Callable[..., Fenced]


@pytest.fixture
def fence(tmp_path: Path) -> Iterator[Open]:
    """`fence(deadline_s=2, ..., **model)`: a fenced fake runtime of that model; a file named fault in the folder is
    what it is to go wrong by."""
    opened: list[Fenced] = []

    def make(*, limits: dict[str, Any] | None = None, **model: Any) -> Fenced:
        path = tmp_path / "fake.json"
        path.write_text(json.dumps({"classes": 5, **model}))
        opened.append(Fenced("fake", path, SPEC, **(limits or {})))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def fault(tmp_path: Path) -> Path:
    return tmp_path / "fault"


def gone(pid: int) -> bool:
    """Whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("name", ["fake", "litert", "onnx"])
def test_answers_are_those_of_the_runtime_within(name: str) -> None:
    pytest.importorskip({"fake": "numpy", "litert": "ai_edge_litert", "onnx": "onnxruntime"}[name])
    path = MODELS / {"fake": "tiny.json", "litert": "tiny-int8.tflite", "onnx": "tiny.onnx"}[name]
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    plain, fenced = open_here(name, path, SPEC), Fenced(name, path, SPEC)
    rows = [logits(fenced, image) for image in images]
    fenced.close()
    assert np.array_equal(rows, [logits(plain, image) for image in images])
    assert np.ptp(rows, axis=0).min() > 0.01
    assert (fenced.name, fenced.version, fenced.classes) == (plain.name, plain.version, plain.classes)


def test_an_accelerator_is_fenced_by_itself_and_a_cpu_runtime_is_not(tmp_path: Path) -> None:
    path = tmp_path / "fake.json"
    path.write_text('{"classes": 3, "accelerator": true}')
    runtime = open_runtime("fake", path, SPEC)
    assert isinstance(runtime, Fenced) and runtime.pid != os.getpid()
    assert logits(runtime, IMAGE).shape == (3,)
    runtime.close()
    path.write_text('{"classes": 3}')
    assert not isinstance(open_runtime("fake", path, SPEC), Fenced)


def test_one_that_hangs_is_ended_and_serves_again_when_restarted(fence: Open, fault: Path) -> None:
    runtime = fence(limits={"deadline_s": 0.3}, hang_when=str(fault))
    before, pid = logits(runtime, IMAGE), runtime.pid
    fault.touch()
    for _ in range(2):  # the second time at once: nothing is started unasked
        with pytest.raises(Unreachable, match=r"^fake did not answer within 0\.3 s and was ended$"):
            logits(runtime, IMAGE)
    assert pid is not None and gone(pid) and runtime.pid is None
    fault.unlink()
    runtime.restart()
    assert runtime.pid != pid and np.array_equal(logits(runtime, IMAGE), before)


def test_one_that_hangs_when_it_loads_is_ended(fence: Open, fault: Path) -> None:
    fault.touch()
    with pytest.raises(Unreachable, match=r"^fake did not load the model and answer within 1 s and was ended$"):
        fence(limits={"start_s": 1.0}, hang_when=str(fault))


def test_a_stopped_one_is_told_apart(fence: Open) -> None:
    runtime = fence(limits={"deadline_s": 0.3})
    pid = runtime.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Unreachable, match=r"^fake, which is stopped, did not answer within 0\.3 s and was ended$"):
        logits(runtime, IMAGE)
    assert gone(pid)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, r"fake was killed \(out of memory\?\)$"),
        (signal.SIGSEGV, r"fake ended by SIGSEGV \(segmentation fault\)$"),
        (signal.SIGBUS, r"fake ended by SIGBUS \(bus error\)$"),
    ],
)
def test_the_cause_of_an_end_is_named(fence: Open, number: int, said: str) -> None:
    runtime = fence()
    assert runtime.pid is not None
    os.kill(runtime.pid, number)
    for _ in range(2):
        with pytest.raises(Unreachable, match=said):
            logits(runtime, IMAGE)


def test_one_that_aborts_ends_itself_alone(fence: Open, fault: Path) -> None:
    runtime = fence(crash_when=str(fault))
    fault.touch()
    with pytest.raises(Unreachable, match=r"fake ended by SIGABRT \(aborted\)"):
        logits(runtime, IMAGE)
    with pytest.raises(Unreachable, match="SIGABRT"):
        runtime.restart()


def test_a_failed_inference_is_the_sentence_of_the_runtime_and_ends_nothing(fence: Open, fault: Path) -> None:
    runtime = fence(fail_when=str(fault))
    pid = runtime.pid
    fault.touch()
    with pytest.raises(LinesideError, match=r"^fake failed in an inference: told to fail while .*fault is there$"):
        logits(runtime, IMAGE)
    fault.unlink()
    assert logits(runtime, IMAGE).shape == (5,) and runtime.pid == pid


def test_what_cannot_be_loaded_raises_as_it_does_without_a_fence(tmp_path: Path) -> None:
    (tmp_path / "fake.json").write_text('{"classes": 1}')
    with pytest.raises(BadInput, match=r"fake\.json: the fake runtime cannot load it"):
        Fenced("fake", tmp_path / "fake.json", SPEC)
    with pytest.raises(BadInput, match="no 'tensorrt'; known are"):
        Fenced("tensorrt", tmp_path / "fake.json", SPEC)
    with pytest.raises(MissingPackage, match=r'pip install "lineside\[agent-tflite-runtime\]"'):
        Fenced("tflite-runtime", tmp_path / "fake.json", SPEC)
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(NotFound, match=r"gone\.tflite: no such model file"):
        Fenced("litert", tmp_path / "gone.tflite", SPEC)


def test_a_name_that_is_no_utf_8_is_found(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"mod\xe8le.json")
    path.write_text('{"classes": 7}')
    runtime = Fenced("fake", path, SPEC)
    assert logits(runtime, IMAGE).shape == (7,)
    runtime.close()


def test_a_model_that_needs_more_memory_than_it_is_given_ends_the_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("def Interpreter(**_):\n    return bytearray(4 << 30)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    bomb = tmp_path / "bomb.tflite"
    bomb.write_bytes(b"bomb")
    with pytest.raises(BadInput, match=r"bomb\.tflite: tflite-runtime cannot load it in 1024 MiB of memory"):
        Fenced("tflite-runtime", bomb, SPEC, memory_mib=1024)


def test_a_small_file_that_asks_for_12_gb_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node, numbers = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        node("ConstantOfShape", ["many"], ["zeros"]),
        node("ReduceMax", ["zeros"], ["zero"], keepdims=1),
        node("Add", ["mean", "zero"], ["logits"]),
    ]
    given = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 8, 8, 3])
    answer = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 3])
    graph = onnx.helper.make_graph(nodes, "bomb", [given], [answer], [numbers(np.array([3_000_000_000]), "many")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    bomb = tmp_path / "bomb.onnx"
    bomb.write_bytes(model.SerializeToString())
    assert bomb.stat().st_size < 1000
    with pytest.raises(LinesideError, match=r"onnx failed in an inference: .*, given 1024 MiB of memory$"):
        Fenced("onnx", bomb, SPEC, memory_mib=1024)
    Fenced("onnx", MODELS / "tiny.onnx", SPEC, memory_mib=1024).close()


def test_the_number_of_threads_and_the_cores_reach_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import os\n"
        "def Interpreter(num_threads, **_):\n"
        "    raise RuntimeError(f'{num_threads} threads on {os.sched_getaffinity(0)}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    cores = os.sched_getaffinity(0)
    last = max(cores)
    os.sched_setaffinity(0, {last})
    try:
        with pytest.raises(BadInput, match=rf"3 threads on \{{{last}\}}$"):
            Fenced("tflite-runtime", MODELS / "tiny.tflite", SPEC, threads=3)
    finally:
        os.sched_setaffinity(0, cores)


OWNER = """
import os, sys, time
from pathlib import Path
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.fenced import Fenced
runtime = Fenced("fake", Path("none"), InputSpec(height=8, width=8))
if sys.argv[1] == "stopped":
    os.kill(runtime.pid, 19)
print(runtime.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["idle", "stopped"])
def test_it_ends_with_its_parent_however_that_ends(how: str, eventually: Callable[..., Any]) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert not gone(pid)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    eventually(lambda: gone(pid))


def test_a_signal_that_is_for_the_agent_does_not_end_it(fence: Open) -> None:
    runtime = fence()
    assert runtime.pid is not None
    os.kill(runtime.pid, signal.SIGTERM)
    os.kill(runtime.pid, signal.SIGINT)
    assert logits(runtime, IMAGE).shape == (5,)


def test_closing_ends_the_child_and_leaves_no_descriptor(fence: Open) -> None:
    fence().close()
    before = sorted(Path("/proc/self/fd").iterdir())
    runtime = fence()
    pid = runtime.pid
    runtime.close()
    runtime.close()
    assert pid is not None and gone(pid)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(LinesideError, match="it is closed"):
        logits(runtime, IMAGE)


def test_an_image_of_another_size_or_type_is_refused(fence: Open) -> None:
    runtime = fence()
    with pytest.raises(BadInput, match=r"image must be uint8 \(8, 8, 3\), got uint8 \(9, 8, 3\)"):
        runtime.encode(np.zeros((9, 8, 3), np.uint8))
    with pytest.raises(LinesideError, match="fake failed in an inference: the image must be uint8"):
        runtime.invoke(np.full((8, 8, 3), "x"))
    assert logits(runtime, IMAGE).shape == (5,)
