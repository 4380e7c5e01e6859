"""The steps that an artifact may take to pass its gate, the cheapest first, and what each of them makes.

Two repairs are no steps, since every int8 artifact has them: hard activations in an identical form that is computed in
integers (`identity`), and biases corrected for what rounding adds (`shared.exact`, `head_bias`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from converters import CONVERTERS, Progress
from converters.activations import ESTIMATORS
from converters.float_layers import FloatLayers
from converters.int8_options import Int8Options, Scheme
from converters.keras_export import Export
from converters.parity import Reference, precision_of
from converters.quantization_aware import obstacle
from converters.scheme import SHARING, SchemeReport, convert
from converters.shared.graph import Unsupported

FLOAT_LAYERS = (1, 4, 16)
"""How many of the most harmful layers are kept in float, one step each."""
FREE = "nothing"
_OTHER = "integers other than those of a runtime that another step served"
Files = tuple[list[Path], SchemeReport | None]


class Rung(NamedTuple):
    """`make` writes the files; None where there is nothing to do that was not done before. `prepare` is what takes long
    before, and tells how far it is; `control` writes the files of the control."""

    name: str
    costs: str
    make: Callable[[Work], Files | None]
    prepare: Callable[[Work], None] | None = None
    control: Callable[[Work], Files | None] | None = None


class Work:
    """What the rungs of one artifact work on, and what they leave for those above them."""

    def __init__(self, name: str, export: Export, folder: Path, reference: Reference, asked: Int8Options) -> None:
        self.name, self.export, self.folder, self.asked = name, export, folder, asked
        self.runtime, self.precision = precision_of(name)
        self.images = reference.images
        self.shares = name == f"{self.runtime}-int8" and self.runtime in SHARING
        self.chosen: SchemeReport | None = None
        self.unsupported = False
        self.float_layers: FloatLayers | None = None
        self.progress: Progress | None = None

    def start(self) -> Files:
        """As it was asked for."""
        if not self.shares:
            return self.own(self.export)
        files, self.chosen = convert(self.name, self.runtime, self.export, self.folder, self.images, self.asked.scheme)
        return files, self.chosen

    def shared(self, export: Export) -> Files | None:
        """The integers that all runtimes share, where this one can have them."""
        if not self.shares:
            return self.own(export)
        if self.unsupported:
            return None
        try:
            return convert(self.name, self.runtime, export, self.folder, self.images, "shared")
        except Unsupported:
            self.unsupported = True
            return None

    def own(self, export: Export) -> Files:
        """As the runtime's own quantizer has it."""
        if self.shares:
            return convert(self.name, self.runtime, export, self.folder, self.images, "native")
        return CONVERTERS.load(self.name)(export, self.folder), None


def rungs(name: str, ranges: str, asked: Int8Options) -> list[Rung]:
    """The steps for an artifact, the cheapest first; `ranges` is the estimator of the first.

    >>> [rung.name for rung in rungs("onnx-int8", "mse", Int8Options())][:4]
    ['mse ranges', 'shared integers', 'minmax ranges', 'percentile ranges']
    >>> [rung.name for rung in rungs("onnx-fp32", "mse", Int8Options())]
    ['conversion']
    """
    runtime, precision = precision_of(name)
    if precision != "int8":
        return [Rung("conversion", FREE, Work.start)]
    found = [Rung(f"{ranges} ranges", FREE, Work.start)]
    if asked.scheme != "native" and runtime in SHARING:
        found += [Rung(f"{each} ranges", _OTHER, _ranged(each)) for each in ESTIMATORS if each != ranges]
    if asked.scheme == "auto" and name == f"{runtime}-int8" and runtime in SHARING:
        found.insert(1, Rung("shared integers", "what its own quantizer was chosen for", _not_chosen("shared")))
        found.append(Rung("native quantizer", _OTHER, _not_chosen("native")))
    found.append(Rung("cross-layer equalisation", _OTHER, _equalised))
    if name == "litert-int8" and asked.scheme != "shared":
        names = {count: "1 layer in float" if count == 1 else f"{count} layers in float" for count in FLOAT_LAYERS}
        found += [Rung(names[count], "the time of these in float", _floats(count)) for count in FLOAT_LAYERS]
    if asked.qat:
        title = f"quantization-aware training ({asked.qat} epochs)"
        found.append(Rung(title, _OTHER, _taught(asked.qat), _learn, _taught(0)))
    return found


def _ranged(ranges: str) -> Callable[[Work], Files | None]:
    return lambda work: work.shared(work.export.with_ranges(ranges))


def _not_chosen(scheme: Scheme) -> Callable[[Work], Files | None]:
    """With the scheme that the first step, which had both, did not choose."""

    def make(work: Work) -> Files | None:
        if work.chosen is None or work.chosen.chosen == scheme:
            return None
        return work.own(work.export) if scheme == "native" else work.shared(work.export)

    return make


def _equalised(work: Work) -> Files | None:
    """With the kernels balanced, shared where that is possible; None where the model has nothing to balance."""
    export = work.export.equalised
    if export is work.export:
        return None
    return _shared_or_own(work, export)


def _shared_or_own(work: Work, export: Export) -> Files | None:
    made = None if work.asked.scheme == "native" else work.shared(export)
    return made if made is not None or work.asked.scheme == "shared" else work.own(export)


def _learn(work: Work) -> None:
    """The training itself, whose epochs are told."""
    tell = work.progress or (lambda _: None)
    if work.export.training is None:
        return
    if against := obstacle(work.export.model):
        tell(f"no quantization-aware training: layer {against}")
    else:
        work.export.taught(work.asked.qat, progress=tell)


def _taught(epochs: int) -> Callable[[Work], Files | None]:
    def make(work: Work) -> Files | None:
        if work.export.training is None or obstacle(work.export.model):
            return None
        return _shared_or_own(work, work.export.taught(epochs))

    return make


def _floats(count: int) -> Callable[[Work], Files | None]:
    def make(work: Work) -> Files | None:
        layers = work.float_layers = work.float_layers or FloatLayers(work.export)
        path = work.folder / "model.tflite"
        names = layers.write(count, path)
        if not names:
            return None
        reason = f"{', '.join(names)} in float"
        return [path], SchemeReport(asked=work.asked.scheme, chosen="native", reason=reason)

    return make
