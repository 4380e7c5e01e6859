"""The process that a fenced runtime runs in: loads the model, then answers one image at a time.

It is started by `fenced`. Image and logits lie in memory that both share; a byte on one pipe asks for an inference, a
line on the other says that it is done, or why not.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import resource
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, LinesideError
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, logits, open_here

DONE = b"done\n"
MOST_LOGITS = 1 << 16


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is started with; `memory`, `asks` and `tells` are file descriptors."""

    runtime: str
    path: str
    spec: InputSpec
    threads: int
    options: dict[str, Any]
    memory_mib: int | None
    memory: int = -1
    asks: int = -1
    tells: int = -1


def write_order(order: Order) -> bytes:
    """One line of JSON, as the child reads it from stdin; a path may hold bytes that are no UTF-8."""
    return json.dumps(msgspec.to_builtins(order)).encode() + b"\n"


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The child's first line: the runtime, when it is loaded and has answered once; else the error and its class."""

    name: str = ""
    version: str = ""
    classes: int = 0
    kind: str = ""
    text: str = ""


class Exchange:
    """Shared memory for one image (height, width, channels) uint8 and its logits, at most 65,536 float32."""

    def __init__(self, spec: InputSpec, descriptor: int) -> None:
        shape = (spec.height, spec.width, spec.channels)
        room = -(-int(np.prod(shape)) // 64) * 64
        os.truncate(descriptor, room + 4 * MOST_LOGITS)
        self._memory = mmap.mmap(descriptor, room + 4 * MOST_LOGITS)
        self.image: NDArray[np.uint8] = np.ndarray(shape, np.uint8, self._memory)
        self.logits: NDArray[np.float32] = np.ndarray(MOST_LOGITS, np.float32, self._memory, room)


def main() -> NoReturn:
    """Follow the order on stdin until the parent has closed its pipe, or has gone."""
    order = msgspec.convert(json.loads(sys.stdin.buffer.readline()), Order)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent, which ends this process itself
    _end_with_parent(sys.stdin.fileno())
    _give_way(order.memory_mib)
    exchange = Exchange(order.spec, order.memory)
    try:
        runtime = open_here(order.runtime, Path(order.path), order.spec, threads=order.threads, **order.options)
        if runtime.classes > MOST_LOGITS:
            raise BadInput(f"{order.path}: has {runtime.classes} classes, at most {MOST_LOGITS} are possible")
        logits(runtime, exchange.image)  # the first inference is the longest: it belongs to the loading
    except (LinesideError, MemoryError) as error:
        _tell(order.tells, Loaded(kind=type(error).__name__, text=_words(error, order)))
    else:
        _tell(order.tells, Loaded(name=runtime.name, version=runtime.version, classes=runtime.classes))
        _serve(runtime, exchange, order.asks, order.tells)
    sys.stdout.flush()
    os._exit(0)  # a driver that hangs in its clean-up must not keep the process


def _serve(runtime: Runtime, exchange: Exchange, asks: int, tells: int) -> None:
    while os.read(asks, 1):
        try:
            exchange.logits[: runtime.classes] = logits(runtime, exchange.image)
            said = DONE
        except LinesideError as error:
            said = " ".join(str(error).split()).encode(errors="backslashreplace")[:2000] + b"\n"
        os.write(tells, said)
    runtime.close()


def _tell(tells: int, loaded: Loaded) -> None:
    os.write(tells, msgspec.json.encode(loaded) + b"\n")


def _words(error: BaseException, order: Order) -> str:
    if order.memory_mib and isinstance(error.__cause__ or error, MemoryError):
        return f"{order.path}: {order.runtime} cannot load it in {order.memory_mib} MiB of memory"
    given = f", given {order.memory_mib} MiB of memory" if order.memory_mib and type(error) is LinesideError else ""
    return f"{str(error)[:2000]}{given}"


def _end_with_parent(lifeline: int) -> None:
    """Be killed by the kernel when the parent's end of this pipe closes: no thread could do so, for a native call may
    hold the interpreter, and a stopped process runs none."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | fcntl.FASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it has gone already
        os._exit(0)


def _give_way(memory_mib: int | None) -> None:
    """Let this process be the first that ends when memory runs out, and give it no more than so much."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if memory_mib is not None:
        limit = memory_mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
