"""What a training reports as it runs: TensorBoard always, MLflow on request. No failure of either ends a training."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.files import write_whole
from device_agent.contract.optional import require
from toolkit.training.checkpoint import Epoch
from toolkit.training.health import LayerHealth

EXPERIMENT = "lineside"
QUIET = {  # mlflow sends usage data to its makers unless told not to, and would try a dead server for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Sink(Protocol):
    """Where figures of an epoch go."""

    def note(self, epoch: int, figures: Mapping[str, float], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Figures by name, and weights by the name of their layer, which are few and seldom."""

    def end(self, status: str) -> None:
        """The training is over: "FINISHED", "FAILED" or "KILLED"."""


class Tracking:
    """Several sinks; one that fails is named once by `warn`, and then left out."""

    def __init__(self, sinks: Mapping[str, Callable[[], Sink]], warn: Callable[[str], None]) -> None:
        self._make, self._warn = dict(sinks), warn
        self._open: dict[str, Sink] = {}

    def note(self, epoch: int, figures: Mapping[str, float | None], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Figures of an epoch to all sinks; those that are None or not finite are left out."""
        clean = {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}

        def note(name: str) -> None:
            if name not in self._open:
                self._open[name] = self._make[name]()
            self._open[name].note(epoch, clean, tensors)

        for name in list(self._make):
            self._safely(name, lambda name=name: note(name))  # type: ignore[misc]

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """The training is the block; how it ends is told to all sinks."""
        try:
            yield
        except KeyboardInterrupt:
            self._end("KILLED")
            raise
        except BaseException:
            self._end("FAILED")
            raise
        self._end("FINISHED")

    def _end(self, status: str) -> None:
        for name, sink in list(self._open.items()):
            self._safely(name, lambda sink=sink: sink.end(status))  # type: ignore[misc]

    def _safely(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  whatever a tracker does, hours of training are worth more
            self._make.pop(name, None)
            if (broken := self._open.pop(name, None)) is not None:
                with suppress(Exception):  # one that cannot be told either stays as it is
                    broken.end("FAILED")
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self._warn(f"{name}: {reason}; the training goes on without it")


class TensorBoard:
    """Event files in a folder, one more for each time that the training goes on."""

    def __init__(self, folder: Path) -> None:
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(folder))

    def note(self, epoch: int, figures: Mapping[str, float], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Scalars, and a histogram of each tensor."""
        with self._writer.as_default(step=epoch):
            for name, value in figures.items():
                self._summary.scalar(name, value)
            for name, values in tensors.items():
                self._summary.histogram(name, values)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the file."""
        self._writer.close()


class MLflow:
    """A run of the experiment "lineside" on a tracking server, or in a folder. Its id is kept in the file `memory`, so
    that a training that goes on goes on there too."""

    def __init__(self, where: str, name: str, parameters: Mapping[str, Any], memory: Path) -> None:
        mlflow = load_mlflow()
        self._client = mlflow.MlflowClient(tracking_uri=where if "://" in where else Path(where).resolve().as_uri())
        if memory.is_file():
            self._run = memory.read_text(encoding="utf-8")
            self._client.update_run(self._run, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(EXPERIMENT)
        self._run = str(self._client.create_run(experiment, run_name=name).info.run_id)
        for key, value in parameters.items():
            self._client.log_param(self._run, key, str(value)[:500])
        write_whole(memory, self._run)

    def note(self, epoch: int, figures: Mapping[str, float], tensors: Mapping[str, NDArray[Any]]) -> None:
        """One metric a figure; only the first slash of a name is kept, since a folder store makes folders of them."""
        for name, value in figures.items():
            kind, slash, layer = name.partition("/")
            self._client.log_metric(self._run, kind + slash + layer.replace("/", "."), value, step=epoch)

    def end(self, status: str) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run, status)


def load_mlflow() -> Any:
    """The mlflow module, told to send nothing to anyone but the server that was named.

    Raises:
        MissingPackage: the `tracking` extra is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    return require("mlflow", extra="tracking")


def figures_of(row: Epoch, layers: Sequence[LayerHealth], warnings: int) -> dict[str, float | None]:
    """The figures of an epoch by the names under which they are tracked."""
    plain = {name: getattr(row, name) for name in row.__struct_fields__ if name not in ("epoch", "blend")}
    plain["gradient_norm/all"] = plain.pop("gradient_norm")  # a figure in a folder store cannot be a folder too
    for layer in layers:
        plain[f"gradient_norm/{layer.layer}"] = layer.gradient_norm
        plain[f"activation_rms/{layer.layer}"] = layer.activation_rms
        plain[f"dead_share/{layer.layer}"] = layer.dead_share
    return plain | {"warnings": float(warnings)}


def figures_between(row: Epoch) -> dict[str, float | None]:
    """The figures of a point between the probe and an epoch, beside those of the epoch itself."""
    measured = [name for name in row.__struct_fields__ if name.startswith("val_")]
    return {f"blend-{row.blend:g}/{name}": getattr(row, name) for name in measured}


def kernels(model: Any, most: int = 8) -> dict[str, NDArray[Any]]:
    """Kernels of up to `most` layers, spread over the depth of a model."""
    found = [(weight.path, weight) for weight in model.trainable_weights if len(weight.shape) > 1]
    places = np.unique(np.linspace(0, max(0, len(found) - 1), min(most, len(found))).astype(int))
    return {found[place][0]: np.asarray(found[place][1]) for place in places}
