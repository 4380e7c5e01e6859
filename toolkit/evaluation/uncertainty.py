"""Does another doubt than plain confidence rank errors better? Monte Carlo dropout, and an ensemble of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.preprocess import table
from toolkit.data.images import load
from toolkit.evaluation.answers import CHUNK, Answers, answers_of
from toolkit.evaluation.metrics import softmax
from toolkit.evaluation.scores import ensure_evaluation
from toolkit.evaluation.selective import RiskCurve, measure_risk
from toolkit.runs import Run

Probabilities = NDArray[np.float64]
PASSES, BATCH = 30, 64
Progress = Callable[[int, int], None]


class Doubting(msgspec.Struct, frozen=True, kw_only=True):
    """One way to doubt answers, and how well it ranks the errors of those answers. `gain` is its AURC below that of
    plain confidence in the same images, with its 95 % interval over groups (paired); over 0 is better."""

    name: str
    accuracy: float
    curve: RiskCurve
    gain: float
    gain_interval: tuple[float, float]


class Uncertainty(msgspec.Struct, frozen=True, kw_only=True):
    """Ways to doubt the answers to the validation images; the first is plain confidence. `notes` say what could not be
    tried."""

    schema: str = "1.0"
    artifact: str
    images: int
    groups: int
    doubts: list[Doubting]
    notes: list[str]
    provenance: Literal["measured"] = "measured"


def measure_uncertainty(
    run: Run,
    name: str,
    *,
    others: Sequence[Run] = (),
    dropout: bool = False,
    passes: int = PASSES,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Uncertainty:
    """Plain confidence of an artifact; with `dropout` Monte Carlo dropout of the Keras model (Gal and Ghahramani 2016);
    with `others`, runs on the same data, their ensemble through the artifact of that name (Lakshminarayanan et al.
    2017).

    Raises:
        NotFound: an artifact or the data are not there.
        BadInput: another run has other classes or other validation images.
        MissingPackage: TensorFlow is not installed (dropout only).
    """
    answers = answers_of(run, name, "val", threads=threads)
    plain = _calibrated(run, name, answers, threads)
    ways: dict[str, tuple[Probabilities, NDArray[np.float64]]] = {"confidence": (plain, 1 - plain.max(axis=1))}
    ways["entropy"] = (plain, entropy(plain))
    notes = []
    if others:
        members = np.stack([plain, *(_member(run, other, name, answers, threads) for other in others)])
        ways |= _of_members(f"ensemble of {len(members)}", members)
    if dropout:
        model = run.model()
        if has_dropout(model):
            ways |= _of_members("dropout", _dropout_answers(run, model, passes, seed, progress))
        else:
            notes.append("Monte Carlo dropout: the model has no dropout layer; train it with one")
    doubts = [_judge(way, *each, ways["confidence"][1], plain, answers) for way, each in ways.items()]
    groups = len(np.unique(answers.groups))
    return Uncertainty(artifact=name, images=len(answers.labels), groups=groups, doubts=doubts, notes=notes)


def _of_members(name: str, members: Probabilities) -> dict[str, tuple[Probabilities, NDArray[np.float64]]]:
    """The mean answer with its own confidence, and with the members' disagreement as doubt."""
    mean = members.mean(axis=0)
    return {name: (mean, 1 - mean.max(axis=1)), f"{name}, disagreement": (mean, mutual_information(members))}


def entropy(probabilities: Probabilities) -> NDArray[np.float64]:
    """Entropy (n,) in nats of probabilities (n, classes).

    >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
    [0.693, 0.0]
    """
    return np.asarray((probabilities * -np.log(np.maximum(probabilities, 1e-300))).sum(axis=-1))


def mutual_information(members: Probabilities) -> NDArray[np.float64]:
    """How much the members (m, n, classes) of an ensemble disagree, (n,) in nats, >= 0: the entropy of their mean less
    the mean of their entropies (BALD, Houlsby et al. 2011).

    >>> mutual_information(np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])).round(3).tolist()
    [0.693, 0.0]
    """
    return np.asarray(np.maximum(entropy(members.mean(axis=0)) - entropy(members).mean(axis=0), 0.0))


def has_dropout(model: Any) -> bool:
    """Whether the Keras model has a dropout layer with a rate over 0."""
    return any("dropout" in type(layer).__name__.lower() and layer.rate > 0 for layer in _layers(model))


def _dropout_answers(run: Run, model: Any, passes: int, seed: int, progress: Progress | None) -> Probabilities:
    """Probabilities (passes, n, classes) for the validation images, of which some are in memory at one time."""
    dataset, rows, spec, parts = run.dataset(), run.rows("val"), run.record.input, []
    for at in range(0, len(rows), CHUNK):
        images = load(dataset, spec, rows[at : at + CHUNK])
        parts.append(dropout_passes(model, table(spec)[images], passes, seed + at))
        if progress is not None:
            progress(at + len(images), len(rows))
    return np.concatenate(parts, axis=1)


def dropout_passes(model: Any, values: NDArray[np.float32], passes: int, seed: int) -> Probabilities:
    """Probabilities (passes, n, classes) with the dropout layers at work and the normalisation in inference.

    Args:
        values: (n, h, w, channels) float32, as the model takes them.
    """
    import keras

    keras.utils.set_random_seed(seed)
    trained, out = [layer.trainable for layer in _layers(model)], []
    try:
        model.trainable = False  # frozen, normalisation uses its running statistics in training too
        for _ in range(passes):
            parts = [np.asarray(model(values[at : at + BATCH], training=True)) for at in range(0, len(values), BATCH)]
            out.append(softmax(np.concatenate(parts)))
    finally:
        for layer, flag in zip(_layers(model), trained, strict=True):
            layer.trainable = flag
    return np.stack(out)


def _layers(model: Any) -> list[Any]:
    """Every layer, those of nested models too, an outer one before its inner ones."""
    return list(model._flatten_layers())


def _judge(
    name: str,
    probabilities: Probabilities,
    doubt: NDArray[np.float64],
    plain_doubt: NDArray[np.float64],
    plain: Probabilities,
    answers: Answers,
) -> Doubting:
    wrong = probabilities.argmax(axis=1) != answers.labels
    curve = measure_risk(wrong, doubt, answers.groups, rng=np.random.default_rng(0))
    plain_wrong = plain.argmax(axis=1) != answers.labels
    gains = gain_draws(plain_wrong, plain_doubt, wrong, doubt, answers.groups)
    low, high = np.quantile(gains[1:], [0.025, 0.975])
    return Doubting(
        name=name,
        accuracy=float(np.mean(~wrong)),
        curve=curve,
        gain=float(gains[0]),
        gain_interval=(float(low), float(high)),
    )


def gain_draws(
    wrong: NDArray[np.bool_],
    doubt: NDArray[np.floating],
    other_wrong: NDArray[np.bool_],
    other_doubt: NDArray[np.floating],
    groups: NDArray[np.generic],
    *,
    draws: int = 400,
) -> NDArray[np.float64]:
    """AURC of one way to doubt less that of the other, (draws + 1,): of the images as they are first, then with groups
    weighted at random, both ways by the same weights; equally doubted answers are taken in together."""
    _, group = np.unique(groups, return_inverse=True)
    count = int(group.max()) + 1
    weights = np.vstack([np.ones(count), np.random.default_rng(0).standard_gamma(1.0, (draws, count))])[:, group]

    def area(errors: NDArray[np.bool_], doubts: NDArray[np.floating]) -> NDArray[np.float64]:
        order = np.argsort(doubts, kind="stable")
        ends = np.flatnonzero(np.diff(np.asarray(doubts)[order], append=np.inf) > 0)
        covered = np.cumsum(weights[:, order], axis=1)[:, ends]
        risk = np.cumsum(weights[:, order] * errors[order], axis=1)[:, ends] / covered
        return np.asarray((risk * np.diff(covered, axis=1, prepend=0.0)).sum(axis=1) / covered[:, -1])

    return area(wrong, doubt) - area(other_wrong, other_doubt)


def _calibrated(run: Run, name: str, answers: Answers, threads: int) -> Probabilities:
    temperature = ensure_evaluation(run, name, threads=threads).temperature
    return softmax(np.asarray(answers.logits, np.float64) / temperature)


def _member(run: Run, other: Run, name: str, answers: Answers, threads: int) -> Probabilities:
    if [label.name for label in other.labels] != [label.name for label in run.labels]:
        raise BadInput(f"{other.dir}: has other classes than {run.dir}")
    theirs = answers_of(other, name, "val", threads=threads)
    if theirs.files != answers.files:
        raise BadInput(f"{other.dir}: has other validation images than {run.dir}; split both by the same manifest")
    return _calibrated(other, name, theirs, threads)
