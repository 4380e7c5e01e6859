"""A runtime in a process of its own, which is killed when it does not answer in time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract import errors
from device_agent.contract.errors import LinesideError, Unreachable
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes.child import DONE, Exchange, Loaded, Order, write_order
from device_agent.runtimes.shape import check_image

DEADLINE_S = 2.0
START_S = 30.0
_END_S = 1.0
_COMMAND = [sys.executable, "-c", "from device_agent.runtimes.child import main; main()"]
_STATES = {"T": ", which is stopped,", "t": ", which is being traced,", "D": ", which waits in the kernel,"}


class _Child:
    """One run of the child process, with its pipes and the memory that it shares."""

    def __init__(self, order: Order) -> None:
        memory = os.memfd_create("lineside-runtime")
        asks, self._asks = os.pipe()
        self._tells, tells = os.pipe()
        shared = (memory, asks, tells)
        try:
            self.exchange = Exchange(order.spec, memory)
            self.process = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=shared,
                start_new_session=True,  # Ctrl-C is for the agent
                env={"PYTHONSAFEPATH": "1", **os.environ},
            )
        except OSError as error:
            os.close(self._asks)
            os.close(self._tells)
            raise Unreachable(
                f"{order.runtime}: no process can be started for it: {(error.strerror or str(error)).lower()}"
            ) from error
        finally:
            for descriptor in shared:
                os.close(descriptor)
        self._poll = select.poll()
        self._poll.register(self._tells, select.POLLIN)
        self._rest = b""
        self._say(write_order(msgspec.structs.replace(order, memory=memory, asks=asks, tells=tells)))

    def _say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its end is read from the other pipe
            self.process.stdin.write(line)
            self.process.stdin.flush()  # and left open: the child ends when it closes

    def ask(self) -> None:
        """Let the child answer for the image in the shared memory."""
        with suppress(BrokenPipeError):
            os.write(self._asks, b"1")

    def line(self, timeout_s: float) -> bytes | None:
        """What the child said within the time; b"" when it has ended, None when it said nothing."""
        end = time.monotonic() + timeout_s
        while not self._rest.endswith(b"\n"):
            left_ms = max(0.0, end - time.monotonic()) * 1000
            if not self._poll.poll(left_ms) and not self._poll.poll(0):  # this process may have been stopped itself
                return None
            heard = os.read(self._tells, 1 << 16)
            if not heard:
                return b""
            self._rest += heard
        said, self._rest = self._rest, b""
        return said

    def state(self) -> str:
        """What keeps the process from answering, as far as the kernel knows; "" when it just runs."""
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return ""
        return _STATES.get(status.rpartition(") ")[2][:1], "")

    def cause(self) -> str:
        """Why the process has ended, for a person."""
        try:
            return cause(self.process.wait(_END_S))
        except subprocess.TimeoutExpired:
            return "has closed its pipe"

    def end(self, grace_s: float) -> None:
        """Let the process release its device and end, and kill it after the time. One that waits in the kernel even
        then is left to it."""
        os.close(self._asks)
        os.close(self._tells)
        with suppress(subprocess.TimeoutExpired):
            if grace_s:
                self.process.wait(grace_s)
        self.process.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)


def cause(code: int) -> str:
    """Why a process ended, from its return code.

    >>> cause(-11), cause(-9), cause(1)
    ('ended by SIGSEGV (segmentation fault)', 'was killed (out of memory?)', 'ended with exit code 1')
    """
    if code == -signal.SIGKILL:
        return "was killed (out of memory?)"
    if code >= 0:
        return f"ended with exit code {code}"
    return f"ended by {signal.Signals(-code).name} ({(signal.strsignal(-code) or 'unknown').lower()})"


class Fenced:
    """The named runtime with the model at `path`, in a child process that ends with this one.

    A child that does not load and answer once within `start_s`, or answer within `deadline_s`, is killed. After that,
    or when the child has ended by itself, `invoke` raises at once until `restart`. The child inherits the CPU affinity
    of the thread that starts it. `memory_mib` limits its address space, `options` are the runtime's own.

    Raises:
        BadInput, NotFound, MissingPackage: as the runtime within raises them.
        Unreachable: it does not load within the time, or its process ends.
    """

    killable = True

    def __init__(
        self,
        name: str,
        path: Path,
        spec: InputSpec,
        *,
        threads: int = 1,
        deadline_s: float = DEADLINE_S,
        start_s: float = START_S,
        memory_mib: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.name, self._spec = name, spec
        self._path, self._threads, self._memory_mib, self._options = path, threads, memory_mib, options or {}
        self._deadline_s, self._start_s = deadline_s, start_s
        self._child: _Child | None = None
        self._fault = ""
        self.restart()

    @property
    def pid(self) -> int | None:
        """Of the child; None when there is none."""
        return self._child.process.pid if self._child else None

    def restart(self) -> None:
        """End the child, if there is one, and start another.

        Raises:
            BadInput, NotFound, MissingPackage, Unreachable: as the class.
        """
        self.close()
        self._child = _Child(self._order())
        line = self._heard(self._start_s, "load the model and answer")
        loaded = msgspec.json.decode(line, type=Loaded)
        if loaded.kind:
            self.close()
            kind = getattr(errors, loaded.kind, LinesideError)
            raise (kind if issubclass(kind, LinesideError) else LinesideError)(loaded.text)
        self.name, self.version, self.classes = loaded.name, loaded.version, loaded.classes

    def _order(self) -> Order:
        return Order(
            runtime=self.name,
            path=str(self._path.absolute()),
            spec=self._spec,
            threads=self._threads,
            options=self._options,
            memory_mib=self._memory_mib,
        )

    def encode(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """The fitted image (height, width, channels) uint8 itself: the child encodes it.

        Raises:
            BadInput: an image of another size.
        """
        check_image(image, self._spec)
        return image

    def invoke(self, tensor: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (classes,) float32, dequantized.

        Raises:
            Unreachable: no answer within the time, or the child has ended.
            LinesideError: the runtime within failed.
        """
        if self._child is None:
            raise Unreachable(self._fault)
        if tensor.dtype != np.uint8:
            raise LinesideError(f"{self.name} failed in an inference: the image must be uint8, got {tensor.dtype}")
        self._child.exchange.image[:] = tensor
        self._child.ask()
        said = self._heard(self._deadline_s, "answer")
        if said != DONE:
            raise LinesideError(said.decode().strip())
        return self._child.exchange.logits[: self.classes].copy()

    def _heard(self, timeout_s: float, what: str) -> bytes:
        """The child's next line; without one within the time the child is ended."""
        assert self._child is not None
        line = self._child.line(timeout_s)
        if line is None:
            state = self._child.state()
            self._lose(f"{self.name}{state} did not {what} within {timeout_s:g} s and was ended")
        if not line:
            limit = f", given {self._memory_mib} MiB of memory" if self._memory_mib else ""
            self._lose(f"{self.name} {self._child.cause()}{limit}")
        return line

    def _lose(self, fault: str) -> NoReturn:
        self._end(0.0)
        self._fault = fault
        raise Unreachable(fault)

    def _end(self, grace_s: float) -> None:
        if self._child is not None:
            self._child.end(grace_s)
            self._child = None

    def close(self) -> None:
        """End the child: it has a second to release its device."""
        self._end(_END_S)
        self._fault = f"{self.name} failed in an inference: it is closed"
