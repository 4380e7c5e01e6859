"""Two runs, or two artifacts of one, on the same held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from toolkit.evaluation.answers import Answers, Split, answers_of
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.gallery import Captioned, write_page
from toolkit.evaluation.paired import Difference, McNemar, differences, mcnemar
from toolkit.evaluation.scores import ensure_evaluation, judge
from toolkit.runs import Run


class Flip(msgspec.Struct, frozen=True, kw_only=True):
    """An image on which two models decide differently; confidences are of the top class after the temperature."""

    file: str
    group: str
    true: str
    said_a: str
    said_b: str
    confidence_a: float
    confidence_b: float
    change: str  # "fixed", "broken" or "both wrong"


class ClassFlips(msgspec.Struct, frozen=True):
    """Images of one class in which only B sees it (fixed) and in which only A does (broken)."""

    name: str
    images: int
    fixed: int
    broken: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """B against A on `images` held-out images that neither was trained on. `left_out` says how many of the split of A
    and of B were not in common."""

    a: str
    b: str
    split: str
    images: int
    groups: int
    left_out: tuple[int, int]
    figures: dict[str, Difference]
    mcnemar: McNemar
    classes: list[ClassFlips]
    flips: list[Flip]
    verdict: str


class Side(msgspec.Struct, frozen=True):
    """One of the two: a run and the name of an artifact, or "keras"."""

    run: Run
    name: str

    def said(self) -> str:
        """Such as "runs/steel litert-int8"."""
        return f"{self.run.dir} {self.name}"


def compare_models(a: Side, b: Side, *, split: Split = "val", common: bool = False, threads: int = 1) -> Comparison:
    """Compare B with A.

    Images are the same when their bytes are. Those are taken that stand in the split of both; none of them, nor another
    image of its group, may have been in the training of either.

    Args:
        common: take the images that both splits have, where they are not the same.

    Raises:
        BadInput: other classes, other images (without `common`), none in common, or an image with two truths.
    """
    names = [label.name for label in a.run.labels]
    theirs = [label.name for label in b.run.labels]
    if names != theirs:
        raise BadInput(f"{a.run.dir} has the classes {', '.join(names)}, {b.run.dir} {', '.join(theirs)}")
    rows_a, rows_b, sizes = _common_rows(a.run, b.run, split)
    if not common and (len(rows_a) != sizes[0] or len(rows_b) != sizes[1]):
        raise BadInput(
            f"the {split} images of the two runs are not the same: {sizes[0]} and {sizes[1]}, of which {len(rows_a)} "
            "are in both and in no training; compare on these with --common"
        )
    if not len(rows_a):
        raise BadInput(f"the two runs have no {split} image in common that neither was trained on")
    judged = []
    for side, rows in ((a, rows_a), (b, rows_b)):
        temperature = ensure_evaluation(side.run, side.name, threads=threads).temperature
        answers = answers_of(side.run, side.name, split, threads=threads).only(rows)
        judged.append((answers, judge(side.run, answers, temperature)))
    left_out = (sizes[0] - len(rows_a), sizes[1] - len(rows_b))
    return compare_answers(*judged[0], judged[1][1], titles=(a.said(), b.said()), split=split, left_out=left_out)


def compare_answers(
    answers: Answers,
    a: Judged,
    b: Judged,
    *,
    titles: tuple[str, str],
    split: str,
    left_out: tuple[int, int] = (0, 0),
    seed: int = 0,
) -> Comparison:
    """The comparison of two models' answers to the same images in the same order.

    Raises:
        BadInput: an image that has two truths.
    """
    truth = a.truth()
    torn = np.flatnonzero((truth != b.truth()).any(axis=1))
    if len(torn):
        raise BadInput(f"{answers.files[torn[0]]}: the two runs have another class for it ({len(torn)} images)")
    said_a, said_b = a.said(), b.said()
    right_a, right_b = (said_a == truth).all(axis=1), (said_b == truth).all(axis=1)
    figures = differences(truth, said_a, said_b, answers.groups, a.names, seed=seed)
    test = mcnemar(right_a, right_b, answers.groups, seed=seed)
    classes = [
        ClassFlips(
            name,
            int(truth[:, at].sum()),
            int((truth & said_b & ~said_a)[:, at].sum()),
            int((truth & said_a & ~said_b)[:, at].sum()),
        )
        for at, name in enumerate(a.names)
    ]
    return Comparison(
        a=titles[0],
        b=titles[1],
        split=split,
        images=len(truth),
        groups=len(np.unique(answers.groups)),
        left_out=left_out,
        figures=figures,
        mcnemar=test,
        classes=classes,
        flips=_flips(answers, a, b, right_a, right_b),
        verdict=_verdict(test, figures["macro-f1"]),
    )


def write_flips(path: Path, folder: Path, comparison: Comparison) -> None:
    """An HTML page of the images on which the two decide differently, with pictures from `folder`.

    Raises:
        NotWritable: the disk is full or read-only.
    """
    pictures = [
        Captioned(
            folder / one.file,
            [
                one.change,
                f"true: {one.true}",
                f"A: {one.said_a}, {one.confidence_a:.3f}",
                f"B: {one.said_b}, {one.confidence_b:.3f}",
                one.file,
            ],
        )
        for one in comparison.flips
    ]
    sentences = [f"A is {comparison.a}", f"B is {comparison.b}", comparison.verdict]
    sentences += [f"{len(pictures)} of {comparison.images} {comparison.split} images are decided differently"]
    write_page(path, "Decisions that changed", sentences, pictures)


def _common_rows(a: Run, b: Run, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, int]]:
    """Places in the splits of a and of b of the images that both have, in one order, and the sizes of both splits."""
    rows = [run.rows(split) for run in (a, b)]
    sizes = (len(rows[0]), len(rows[1]))
    same = a.record.data_sha256 == b.record.data_sha256 and a.record.split_sha256 == b.record.split_sha256
    if a.dir == b.dir or (same and a.record.split_sha256 and a.dataset().files == b.dataset().files):
        return np.arange(sizes[0]), np.arange(sizes[1]), sizes
    digests = [run.dataset().digests() for run in (a, b)]
    trained = [set(np.asarray(run.dataset().groups)[run.rows("train")]) for run in (a, b)]
    seen = [{each[row] for row in run.rows("train")} for run, each in zip((a, b), digests, strict=True)]
    groups = [
        dict(zip(each, np.asarray(run.dataset().groups), strict=True))
        for run, each in zip((a, b), digests, strict=True)
    ]
    place_b = {digests[1][row]: place for place, row in enumerate(rows[1])}
    pairs = []
    for place, row in enumerate(rows[0]):
        digest = digests[0][row]
        known = any(digest in one for one in seen) or any(
            digest in of and of[digest] in each for of, each in zip(groups, trained, strict=True)
        )
        if digest in place_b and not known:
            pairs.append((place, place_b[digest]))
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1], sizes


def _flips(
    answers: Answers, a: Judged, b: Judged, right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]
) -> list[Flip]:
    truth, said_a, said_b = a.truth(), a.said(), b.said()
    sure_a, sure_b = a.probabilities.max(axis=1), b.probabilities.max(axis=1)
    out = []
    for row in np.flatnonzero((said_a != said_b).any(axis=1)):
        change = "fixed" if right_b[row] else "broken" if right_a[row] else "both wrong"
        out.append(
            Flip(
                file=answers.files[row],
                group=str(answers.groups[row]),
                true=_cell(truth[row], a.names),
                said_a=_cell(said_a[row], a.names),
                said_b=_cell(said_b[row], a.names),
                confidence_a=float(sure_a[row]),
                confidence_b=float(sure_b[row]),
                change=change,
            )
        )
    order = ("broken", "both wrong", "fixed")
    return sorted(out, key=lambda one: (order.index(one.change), -one.confidence_b))


def _cell(row: NDArray[np.bool_], names: Sequence[str]) -> str:
    return "|".join(name for name, is_ in zip(names, row, strict=True) if is_)


def _verdict(test: McNemar, macro: Difference) -> str:
    said = f"macro-F1 {macro.a:.3f} to {macro.b:.3f} ({macro.low:+.3f} to {macro.high:+.3f})"
    if test.p_groups < 0.05:
        return f"{'B' if test.only_b > test.only_a else 'A'} is right more often (p {test.p_groups:.3g}); {said}"
    return f"no difference beyond chance (p {test.p_groups:.3g}); {said}"
