"""The parity gate: an artifact against Keras on real images, through the device's own preprocessing and runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from converters.macro_f1 import count, macro_f1
from converters.rare_recall import NORMAL, RareRecall, rare_recall, share_interval
from device_agent.contract.errors import BadInput, ParityFailed
from device_agent.contract.manifest import InputSpec
from device_agent.runtimes import Runtime, logits, open_runtime

RESAMPLES = 400
EVIDENCE = 200
"""Images from which on a passed gate counts as proof; with fewer, sampling error is granted as for so many."""
Precision = Literal["fp32", "fp16", "int8"]
Logits = NDArray[np.floating]


class Reference(msgspec.Struct, frozen=True):
    """What an artifact is held against: images (n, h, w, c) uint8 and Keras' logits for them (n, classes).

    `labels` (m,) are the true classes of the first m, those that no training saw: macro-F1 is judged on them, logits on
    all. `golden` (k, h, w, c) uint8 are the images whose answers are kept with the artifact. `names` are those of the
    classes, `defects` the numbers of those that are defects: the recall of the rarest of them is judged too.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    logits: NDArray[np.float32]
    golden: NDArray[np.uint8]
    names: Sequence[str] = ()
    defects: Sequence[int] = ()


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What a precision may cost. Errors are shares of the spread of Keras' logits; a tie is an image whose two highest
    logits are nearer than `tie`; `f1_drop` is in macro-F1, 0 to 1, judged one-sided at 95 % against its sampling error.

    The largest error of an int8 artifact that agrees was 5 to 10 times its mean (18 artifacts, up to 1.1); its bound is
    10 times that of the mean.
    """

    max_error: float
    mean_error: float
    disagreement: float
    tie: float
    f1_drop: float


GATES: dict[Precision, Gate] = {
    "fp32": Gate(max_error=1e-3, mean_error=1e-4, disagreement=0.0, tie=2e-3, f1_drop=0.003),
    "fp16": Gate(max_error=0.1, mean_error=0.01, disagreement=0.0, tie=0.2, f1_drop=0.003),
    "int8": Gate(max_error=2.0, mean_error=0.2, disagreement=0.05, tie=0.0, f1_drop=0.015),
}


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """Measured on `images` images with the runtime of that version. `spread` is the standard deviation of Keras' logits
    (each image's mean taken off); errors are shares of it. `agreement`, `macro_f1` and `keras_macro_f1` are in [0, 1],
    the latter two over the images with a label; `f1_drop_error` is one standard error of their difference, and
    `agreement_interval` holds 90 %. `rarest` is the recall of the rarest defect; None in records of old. `failures`
    says what the gate objects to; none is a pass, and `proved` if there were images enough for it to mean something."""

    images: int
    runtime_version: str
    spread: float
    max_error: float
    mean_error: float
    agreement: float
    keras_macro_f1: float
    macro_f1: float
    f1_drop_error: float
    failures: list[str] = []
    proved: bool = False
    agreement_interval: tuple[float, float] | None = None
    rarest: RareRecall | None = None

    @property
    def f1_drop(self) -> float:
        """Macro-F1 lost against Keras, 0 to 1."""
        return self.keras_macro_f1 - self.macro_f1

    @property
    def passed(self) -> bool:
        """Whether the artifact computes what was trained."""
        return not self.failures

    @property
    def doubt(self) -> str:
        """ "not proved: 18 of 200 images, macro-F1 0.4 points below Keras" where there were too few, else empty."""
        drop = 100 * self.f1_drop
        side = "below" if drop >= 0 else "above"
        few = f"not proved: {self.images} of {EVIDENCE} images, macro-F1 {abs(drop):.1f} points {side} Keras"
        return "" if self.proved else few


def check_spread(reference: Logits, names: Sequence[str] | None = None) -> float:
    """Standard deviation of Keras' logits, each image's mean taken off.

    An untrained network gives one answer for everything, and then every artifact agrees with it. `names` are those of
    the classes, for the error.

    Raises:
        ParityFailed: the logits hardly differ between images, or one class is predicted for all.
    """
    centred = _centre(reference)
    between = float(centred.std(axis=0).mean())
    predicted = len(np.unique(reference.argmax(axis=1)))
    proves = f"for all {len(reference)} images, so that parity would prove nothing"
    if not np.isfinite(reference).all():
        raise ParityFailed("the model's outputs are not finite; train it again")
    if between < 1e-3:
        raise ParityFailed(f"the model's outputs are the same {proves}; train it first")
    if predicted < 2:
        name = f"class {reference[0].argmax()}" if names is None else repr(names[reference[0].argmax()])
        raise ParityFailed(f"the model predicts {name} {proves}; train longer or with --weights")
    return float(centred.std())


def compare(
    got: Logits,
    reference: Logits,
    labels: NDArray[np.integer],
    precision: Precision,
    *,
    runtime_version: str = "",
    names: Sequence[str] = (),
    defects: Sequence[int] = (),
    max_drop: float | None = None,
) -> ParityReport:
    """What the gate of `precision` says to logits (n, classes) against Keras' (n, classes); labels (m,) of the first m.

    `names` and `defects` are as in `Reference`; `max_drop` is macro-F1, 0 to 1, that may be lost instead of the gate's.

    >>> keras = np.array([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    >>> compare(keras + 0.5, keras, np.array([0, 1, 0, 1]), "fp32").passed
    True
    >>> compare(-keras, keras, np.array([0, 1, 0, 1]), "int8").failures[0]
    'mean error 1.886 of the spread, allowed 0.2'

    Raises:
        ParityFailed: Keras' own logits do not spread.
    """
    spread, gate = check_spread(reference), GATES[precision]
    if max_drop is not None:
        gate = msgspec.structs.replace(gate, f1_drop=max_drop)
    error = np.abs(_centre(got) - _centre(reference)) / spread
    same = got.argmax(axis=1) == reference.argmax(axis=1)
    said, true = (each[: len(labels)].argmax(axis=1) for each in (got, reference))
    answers, keras = (count(labels, each, reference.shape[1]) for each in (said, true))
    report = ParityReport(
        images=len(got),
        runtime_version=runtime_version,
        spread=spread,
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        agreement=float(same.mean()),
        keras_macro_f1=float(macro_f1(keras.sum(axis=1))),
        macro_f1=float(macro_f1(answers.sum(axis=1))),
        f1_drop_error=_drop_error(answers, keras),
        proved=len(got) >= EVIDENCE,
        agreement_interval=share_interval(float(same.mean()), len(same)),
        rarest=rare_recall(labels, said, true, names, defects),
    )
    top = np.sort(reference, axis=1)
    ties = (top[:, -1] - top[:, -2]) / spread < gate.tie
    return msgspec.structs.replace(report, failures=_object(report, gate, float((~same & ~ties).mean())))


def measure(
    runtime: str,
    precision: Precision,
    path: Path,
    spec: InputSpec,
    reference: Reference,
    *,
    threads: int = 2,
    max_drop: float | None = None,
) -> ParityReport:
    """The gate's report on a model file, run image by image as the device would; `max_drop` as for `compare`.

    Raises:
        ParityFailed: Keras' own logits do not spread, or the model has another number of classes.
        BadInput: the runtime cannot load the file.
    """
    check_spread(reference.logits)
    model = open_runtime(runtime, path, spec, threads=threads)
    if model.classes != reference.logits.shape[1]:
        raise ParityFailed(f"{path}: gives {model.classes} logits, Keras {reference.logits.shape[1]}")
    got = _run(model, reference.images)
    return compare(
        got,
        reference.logits,
        reference.labels,
        precision,
        runtime_version=model.version,
        names=reference.names,
        defects=reference.defects,
        max_drop=max_drop,
    )


def answers(runtime: str, path: Path, spec: InputSpec, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (n, classes) float32 of a model file for images (n, h, w, c) uint8, one by one as the device would.

    Raises:
        BadInput: the runtime cannot load the file.
    """
    return _run(open_runtime(runtime, path, spec), images)


def _run(model: Runtime, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    try:
        return np.array([logits(model, image) for image in images])
    finally:
        model.close()


def precision_of(name: str) -> tuple[str, Precision]:
    """Runtime and precision of an artifact's name; "uint8" is int8 with uint8 at both ends.

    >>> precision_of("onnx-int8"), precision_of("litert-uint8")
    (('onnx', 'int8'), ('litert', 'int8'))

    Raises:
        BadInput: not "<runtime>-<precision>".
    """
    if name.endswith("-uint8"):
        return precision_of(f"{name.removesuffix('-uint8')}-int8")
    for precision in GATES:
        runtime = name.removesuffix(f"-{precision}")
        if runtime not in ("", name):
            return runtime, precision
    raise BadInput(f"{name}: an artifact's name must be RUNTIME-PRECISION, the precision one of {', '.join(GATES)}")


def _object(report: ParityReport, gate: Gate, disagreement: float) -> list[str]:
    if not np.isfinite(report.max_error):
        return ["logits that are not finite"]
    found = []
    if report.mean_error > gate.mean_error:
        found.append(f"mean error {report.mean_error:.3f} of the spread, allowed {gate.mean_error:g}")
    if report.max_error > gate.max_error:
        found.append(f"largest error {report.max_error:.3f} of the spread, allowed {gate.max_error:g}")
    # one standard error of a share: with few images a single flip is not yet a broken artifact
    slack = np.sqrt(gate.disagreement * (1 - gate.disagreement) / max(report.images, EVIDENCE))
    if disagreement > gate.disagreement + NORMAL * slack:
        found.append(f"another class than Keras on {disagreement:.1%} of the images, allowed {gate.disagreement:.1%}")
    if report.f1_drop - NORMAL * report.f1_drop_error > gate.f1_drop:
        found.append(f"macro-F1 {report.f1_drop * 100:.1f} points below Keras, allowed {gate.f1_drop * 100:g}")
    if report.rarest is not None and report.rarest.failure:
        found.append(report.rarest.failure)
    return found


def _centre(values: Logits) -> Logits:
    return np.asarray(values - values.mean(axis=1, keepdims=True))


def _drop_error(answers: NDArray[np.float64], keras: NDArray[np.float64]) -> float:
    """Standard error of the drop in macro-F1, by drawing the images anew, the pairs kept together: counts (3, n, c)."""
    images = answers.shape[1]
    weights = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return float(np.std(macro_f1(weights @ keras) - macro_f1(weights @ answers)))
