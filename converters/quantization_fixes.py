"""What can be done about a noisy layer, each as a change of the file that can be tried and measured.

`FIXES` names the fixes of each cause, `GENERAL` those of the whole network. A fix gets a `Patient` and a path, and
writes the changed file there. One that needs the Keras model calls `Patient.export`, None for a file from elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from converters import hard_swish, rescaling
from converters.keras_export import Export
from converters.layer_noise import Noise
from converters.layers import kernel_of, limits, output_of
from converters.mixed_graph import INPUT, Floats, Mix, write_mixed
from converters.noise_causes import Suspicion
from converters.tflite_file import Graph
from device_agent.contract.manifest import InputSpec


class Patient(NamedTuple):
    """The file, what was found in it, and where it came from, if that is known."""

    path: Path
    graph: Graph
    floats: Floats
    spec: InputSpec
    noise: Noise
    export: Callable[[], Export] | None = None


class Fix(NamedTuple):
    """`name` in words. `apply` writes the changed file."""

    name: str
    apply: Callable[[Patient, Path], None]


def fixes_for(suspicion: Suspicion) -> list[Fix]:
    """What can be tried for a cause, the cheapest for the latency first."""
    return [make(suspicion) for make in FIXES.get(suspicion.cause, ())] + [_keep_float(suspicion)]


def _keep_float(suspicion: Suspicion) -> Fix:
    many = len(suspicion.layers) > 1
    what = f"these {len(suspicion.layers)} layers and what reads them" if many else "the layer and what reads it"
    name = "the first layer" if suspicion.layers == (INPUT,) else what
    return Fix(f"keep {name} in float", keep_float(suspicion.layers))


def keep_float(layers: Sequence[int]) -> Callable[[Patient, Path], None]:
    """These operators compute in float, and so do those that read their results, which would be rounded otherwise."""

    def apply(patient: Patient, target: Path) -> None:
        graph = patient.graph
        readers = {reader for layer in layers for reader in graph.readers.get(output_of(graph, layer), [])}
        whole = frozenset(range(len(graph.operators))) - set(layers) - readers
        write_mixed(patient.path, target, Mix(integers=whole, float_input=INPUT in layers), patient.floats)

    return apply


def _clip_range(suspicion: Suspicion) -> Fix:
    """The range of least squared error in the place of the extremes (Banner et al. 2019, Post training 4-bit
    quantization of convolutional networks, treat such clipping)."""

    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        tensor = output_of(patient.graph, suspicion.layers[-1])
        sample = patient.noise.seen[tensor].sample
        low, high = rescaling.best_range(sample, *limits(patient.graph.tensors[tensor]))
        rescaling.set_ranges(target, {tensor: (low, high)})

    return Fix("range of least squared error", apply)


def _widen_range(suspicion: Suspicion) -> Fix:
    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        tensor = output_of(patient.graph, suspicion.layers[-1])
        seen = patient.noise.seen[tensor]
        rescaling.set_ranges(target, {tensor: (float(seen.low.min()), float(seen.high.max()))})

    return Fix("range of the values that were seen", apply)


def _take_bytes(suspicion: Suspicion) -> Fix:
    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        rescaling.take_bytes(target, patient.spec)

    return Fix("a code for each byte, the half step in the first bias", apply)


def _write_out(suspicion: Suspicion) -> Fix:
    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        hard_swish.rewrite(target)

    return Fix("all of them as x * clip(x / 6 + 1/2), the same function", apply)


def _clip_all() -> Fix:
    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        graph, seen = patient.graph, patient.noise.seen
        layers = [each.number for each in patient.noise.layers if each.number != INPUT]
        tensors = [each for each in (output_of(graph, n) for n in layers) if rescaling.has_own_range(graph, each)]
        ranges = {each: rescaling.best_range(seen[each].sample, *limits(graph.tensors[each])) for each in tensors}
        rescaling.set_ranges(target, ranges)

    return Fix("ranges of least squared error", apply)


def _correct_biases() -> Fix:
    """Take the mean of what each layer's own rounding adds out of its bias (Nagel et al. 2019, Data-free quantization
    through weight equalization and bias correction)."""

    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        graph = patient.graph
        last = graph.maker.get(graph.outputs[0])
        layers = [n for n in patient.noise.shifts if n not in (INPUT, last) and kernel_of(graph, n)[1] >= 0]
        rescaling.shift_biases(target, {number: -patient.noise.shifts[number] for number in layers})

    return Fix("biases corrected for the mean of each layer's own noise", apply)


def narrow_weights() -> Fix:
    """7 bits for kernels: no sum of two products goes over 16 bits then."""

    def apply(patient: Patient, target: Path) -> None:
        shutil.copyfile(patient.path, target)
        rescaling.narrow_weights(target)

    return Fix("kernels of 7 bits", apply)


FIXES: Mapping[str, Sequence[Callable[[Suspicion], Fix]]] = {
    "input scale": (_take_bytes,),
    "hard-swish": (_write_out,),
    "range outliers": (_clip_range,),
    "clipped range": (_widen_range,),
    "rounding": (_clip_range,),
}

GENERAL: Sequence[Callable[[], Fix]] = (_clip_all, _correct_biases)
