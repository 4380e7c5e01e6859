"""Where a training runs: one device, all devices of this machine, or several machines (tf.distribute).

However many there are, a step is one batch of the recipe, dealt out evenly, with the gradient of the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput, Unreachable
from toolkit.framework import load_keras

Kind = Literal["one", "mirrored", "multi-worker"]
EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


class Worker(NamedTuple):
    """A place among the machines of a training: number `place` of `machines`; number 0 is the chief, which writes."""

    place: int
    machines: int


class Devices:
    """Replicas of a model that take a step together; `strategy` None is the one device that TensorFlow takes itself."""

    def __init__(self, strategy: Any = None, worker: Worker = Worker(0, 1)) -> None:  # noqa: B008
        self.strategy = strategy
        self.worker = worker

    @property
    def replicas(self) -> int:
        """Replicas of the model on all machines together."""
        return 1 if self.strategy is None else int(self.strategy.num_replicas_in_sync)

    @property
    def chief(self) -> bool:
        """Whether this process writes the run."""
        return self.worker.place == 0

    def check(self, batch: int) -> None:
        """Refuse a batch that cannot be dealt out evenly.

        Raises:
            BadInput: it does not divide.
        """
        if batch % self.replicas:
            raise BadInput(f"batch must be a multiple of the {self.replicas} devices, got {batch}")

    def scope(self) -> Any:
        """Variables that are made in this block are on every replica."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def compiled(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work` as one compiled function that every replica runs on its part."""
        import tensorflow as tf

        if self.strategy is None:
            function: Callable[..., Any] = tf.function(work, autograph=False)
            return function
        run = self.strategy.run
        together: Callable[..., Any] = tf.function(lambda *parts: run(work, args=parts), autograph=False)
        return together

    def deal(self, batch: NDArray[Any]) -> Any:
        """An array with one entry an image, of which each replica gets its share."""
        import tensorflow as tf

        if self.strategy is None:
            return tf.constant(batch)
        each = len(batch) // self.replicas

        def part(context: Any) -> Any:
            first = context.replica_id_in_sync_group * each
            return tf.constant(batch[first : first + each])

        return self.strategy.experimental_distribute_values_from_function(part)

    def total(self, values: Any) -> Any:
        """Tensors summed over the replicas; inside compiled work."""
        import tensorflow as tf

        if self.strategy is None:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, self.placed(values))

    def placed(self, values: Any) -> Any:
        """Tensors on the replica's own device, where arguments of compiled work do not lie yet."""
        import tensorflow as tf

        return values if self.strategy is None else tf.nest.map_structure(tf.identity, values)

    def first(self, value: Any) -> NDArray[Any]:
        """A result that is alike on all replicas."""
        local = value if self.strategy is None else self.strategy.experimental_local_results(value)[0]
        return np.asarray(local)

    def told(self, content: bytes) -> bytes:
        """The chief's `content`, on every machine."""
        if self.strategy is None or self.worker.machines == 1:
            return content
        length = int(self._sum(np.array([len(content) if self.chief else 0], np.int64))[0])
        mine = np.frombuffer(content, np.uint8) if self.chief else np.zeros(length, np.uint8)
        return self._sum(mine.astype(np.int32)).astype(np.uint8).tobytes()

    def _sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum of the machines' arrays; the first replica of each brings it, the others bring nothing."""
        import tensorflow as tf

        each = max(1, self.replicas // self.worker.machines)

        def bring(context: Any) -> Any:
            return tf.constant(values if context.replica_id_in_sync_group % each == 0 else np.zeros_like(values))

        brought = self.strategy.experimental_distribute_values_from_function(bring)
        return self.first(self.compiled(self.total)(brought))


def open_devices(kind: Kind = "one") -> Devices:
    """The devices of a kind; "multi-worker" waits until all machines of TF_CONFIG are there.

    Raises:
        BadInput: TF_CONFIG is missing or damaged.
        Unreachable: the other machines do not come.
    """
    if kind == "one":
        return Devices()
    worker = read_worker(os.environ.get("TF_CONFIG", "")) if kind == "multi-worker" else Worker(0, 1)
    load_keras()
    import tensorflow as tf

    if kind == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return Devices(tf.distribute.MirroredStrategy([device.name for device in found]))
    with together():
        return Devices(tf.distribute.MultiWorkerMirroredStrategy(), worker)


@contextmanager
def together() -> Iterator[None]:
    """The block works with other machines.

    Raises:
        Unreachable: one of them does not answer.
    """
    import tensorflow as tf

    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
        tf.errors.CancelledError,
        tf.errors.InternalError,  # what a broken collective becomes on some of the others
    )
    try:
        yield
    except gone as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise Unreachable(
            "another machine of this training does not answer: the last whole epoch is kept; give the same "
            f"command on all machines again ({reason})"
        ) from error


class _Task(msgspec.Struct):
    type: str
    index: int


class _Config(msgspec.Struct):
    cluster: Mapping[str, Sequence[str]]
    task: _Task


def read_worker(text: str) -> Worker:
    """The place that TF_CONFIG gives this process.

    >>> read_worker('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}')
    Worker(place=1, machines=2)

    Raises:
        BadInput: empty or damaged, or a place that the cluster has not.
    """
    if not text:
        raise BadInput(f"multi-worker needs TF_CONFIG on each machine, like {EXAMPLE}; it is not set")
    try:
        config = msgspec.json.decode(text, type=_Config)
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"multi-worker needs TF_CONFIG like {EXAMPLE}, got {text[:80]!r}: {str(error).lower()}"
        ) from None
    workers = config.cluster.get("worker", ())
    if config.task.type != "worker" or not 0 <= config.task.index < len(workers) or len(config.cluster) != 1:
        raise BadInput(f"TF_CONFIG must name workers alone, and this one among them, like {EXAMPLE}, got {text[:200]}")
    return Worker(config.task.index, len(workers))
