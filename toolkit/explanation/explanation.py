"""Why a quantized model says something else than the float one, and what can be done about it, tried and measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from converters.layer_noise import LayerNoise, measure_noise
from converters.layers import kernel_of, layer_names
from converters.noise_causes import Suspicion, suspect
from converters.quantization_fixes import GENERAL, Fix, Patient, fixes_for, narrow_weights
from converters.saturation import Saturation, find_saturations
from device_agent.contract.errors import LinesideError
from device_agent.runtimes import logits, open_runtime
from device_agent.runtimes.saturation import instructions
from toolkit.explanation.judging import Judgement, judge
from toolkit.explanation.stopwatch import Timed, time_together
from toolkit.explanation.subject import Subject

Progress = Callable[[str], None]
STORED = "stored"
_BYTES = {"avx2", "avx_vnni", "avx512_vnni"}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A fix that was tried: what it changed, measured. `time` says how much longer it takes than the file as it is,
    `cost_bytes` how much larger it is. `why_not` says why it could not be tried."""

    fix: str
    judgement: Judgement | None = None
    time: Timed | None = None
    cost_bytes: int = 0
    why_not: str = ""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A cause: `share` is that of the noise in the answers which comes from its layers, in [0, 1], `layers` their names
    and `worst` that of the one with the most."""

    cause: str
    worst: str
    layers: list[str]
    evidence: str
    share: float
    fixes: list[Outcome] = []


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a quantized file, layer by layer, and what helps.

    The layers were measured on `images` images, the fixes judged on `judged` that have `labelled` labels. `stored` is
    the file as it is. `compared` says what the float network was made of. `error` is what came together in the answers
    (root mean square, share of their spread), `predicted_error` what the layers' own parts add up to. Causes come by
    their share, `general` are fixes of all layers at once. `saturations` are predicted, for other runtimes on x86
    processors without VNNI, and None where no kernel is int8; `machine` has these flags.

    With `recentred`, the last bias was corrected after each fix, as the converter does, and gains are over the file
    with the same correction.
    """

    path: str
    compared: str
    images: int
    judged: int
    labelled: int
    error: float
    predicted_error: float
    stored: Outcome
    layers: list[LayerNoise]
    causes: list[Cause]
    general: list[Outcome] = []
    saturations: list[Saturation] | None = None
    saturation_fix: Outcome | None = None
    machine: list[str] = []
    recentred: bool = False


def explain(
    subject: Subject, *, causes: int = 5, seconds: float = 1.5, progress: Progress | None = None
) -> Explanation:
    """The noise of every layer of the subject's file, its `causes` largest causes, and their fixes tried.

    Args:
        seconds: how long each changed file is timed; 0 leaves latency out.
        progress: is told what comes next.

    Raises:
        BadInput: the file is not quantized, or the images do not fit.
    """
    tell = progress or (lambda _: None)
    graph, floats = subject.graph, subject.floats
    noise = measure_noise(
        subject.path, floats, subject.probed, subject.spec, progress=lambda name: tell(f"measuring {name}")
    )
    patient = Patient(subject.path, graph, floats, subject.spec, noise, subject.export)
    found = _rank(patient, noise.layers, causes)
    saturations = find_saturations(graph, noise.seen)
    fixes = {f"{place} {fix.name}": fix for place, one in enumerate(found) for fix in fixes_for(one[0])}
    fixes |= {f"all {make().name}": make() for make in GENERAL}
    if saturations:
        fixes["saturation"] = narrow_weights()
    outcomes = _try(subject, patient, fixes, seconds, tell)
    return Explanation(
        path=str(subject.given),
        compared=subject.compared,
        images=len(subject.probed),
        judged=len(subject.judged),
        labelled=0 if subject.labels is None else len(subject.labels),
        error=float(np.sqrt(np.square(noise.answers - noise.reference).mean())) / noise.spread,
        predicted_error=float(np.sqrt(sum(each.harm**2 for each in noise.layers))),
        stored=outcomes[STORED],
        layers=noise.layers,
        causes=[
            Cause(
                cause=suspicion.cause,
                worst=_name(patient, worst.number),
                layers=[_name(patient, number) for number in suspicion.layers],
                evidence=suspicion.evidence,
                share=share,
                fixes=[outcomes[f"{place} {fix.name}"] for fix in fixes_for(suspicion)],
            )
            for place, (suspicion, worst, share) in enumerate(found)
        ],
        general=[outcomes[f"all {make().name}"] for make in GENERAL],
        saturations=saturations,
        saturation_fix=outcomes.get("saturation"),
        machine=sorted(instructions() & _BYTES),
        recentred=_ends_in_bias(patient),
    )


def _rank(patient: Patient, layers: Sequence[LayerNoise], most: int) -> list[tuple[Suspicion, LayerNoise, float]]:
    """Suspicions with the layer that has most of it and their share of the noise, the largest share first: the first
    `most`, and HARD_SWISH even where its noise is little, for it costs time."""
    whole = sum(each.harm**2 for each in layers) or 1.0
    groups: dict[tuple[str, tuple[int, ...]], list[LayerNoise]] = {}
    first: dict[tuple[str, tuple[int, ...]], Suspicion] = {}
    for layer in sorted(layers, key=lambda each: -each.harm):
        suspicion = suspect(patient.graph, layer)
        key = suspicion.cause, suspicion.layers
        groups.setdefault(key, []).append(layer)
        first.setdefault(key, suspicion)
    ranked = [
        (first[key], members[0], sum(each.harm**2 for each in members) / whole) for key, members in groups.items()
    ]
    ranked.sort(key=lambda each: -each[2])
    return ranked[:most] + [each for each in ranked[most:] if each[0].cause == "hard-swish" and most]


def _name(patient: Patient, number: int) -> str:
    return layer_names(patient.graph)[number]


def _try(
    subject: Subject, patient: Patient, fixes: dict[str, Fix], seconds: float, tell: Progress
) -> dict[str, Outcome]:
    """Every changed file judged on the same images as the file as it is, and all of them timed together."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        whole, answers, models, sizes = {STORED: Fix("as it is", _copy)} | fixes, {}, {}, {}
        failed: dict[str, str] = {}
        shifts, recentred = {}, _ends_in_bias(patient)
        for place, (key, fix) in enumerate(whole.items()):
            tell(f"trying {key.partition(' ')[2] or key}")
            target = Path(folder) / f"{place}.tflite"
            try:
                fix.apply(patient, target)
                model = open_runtime("litert", target, patient.spec)
            except LinesideError as error:
                failed[key] = str(error).replace(str(target), "the file")
                continue
            opened.callback(model.close)
            models[key], sizes[key] = (model, patient.spec), target.stat().st_size
            answers[key] = np.array([logits(model, image) for image in subject.judged])
            probed = np.array([logits(model, image) for image in subject.probed])
            shifts[key] = (patient.noise.reference - probed).mean(axis=0) * recentred
        tell("measuring latency")
        times = time_together(models, seconds=seconds) if seconds > 0 else {}
    made = {}
    for key, fix in whole.items():
        if key in failed:
            made[key] = Outcome(fix=fix.name, why_not=failed[key])
            continue
        before, after = answers[STORED] + shifts[STORED], answers[key] + shifts[key]
        if key == STORED:
            before = after = answers[STORED]
        made[key] = Outcome(
            fix=fix.name,
            judgement=judge(subject.reference, before, after, subject.labels),
            time=times.get(key),
            cost_bytes=sizes[key] - sizes[STORED],
        )
    return made


def _ends_in_bias(patient: Patient) -> bool:
    maker = patient.graph.maker.get(patient.graph.outputs[0])
    return maker is not None and kernel_of(patient.graph, maker)[1] >= 0


def _copy(patient: Patient, target: Path) -> None:
    target.write_bytes(patient.path.read_bytes())
