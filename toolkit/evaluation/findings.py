"""All that can be asked of a model's answers at one time, next to its evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agent.contract.files import write_whole
from toolkit.evaluation.annotators import Ceiling, measure_ceiling, read_annotations
from toolkit.evaluation.answers import Answers, Progress, answers_of
from toolkit.evaluation.columns import slices_of
from toolkit.evaluation.curves import plot_confusion, plot_precision_recall
from toolkit.evaluation.elsewhere import Elsewhere, evaluate_elsewhere
from toolkit.evaluation.failures import FailureCheck, check_failures, keep_failures
from toolkit.evaluation.fairness import EqualisedOdds, equalised_odds
from toolkit.evaluation.figures import Judged
from toolkit.evaluation.gallery import Mistake, find_mistakes, write_gallery
from toolkit.evaluation.gates import Gate, GateResult, On, judge_gates
from toolkit.evaluation.human_review import HumanReview, ReviewTable, compare_ways, share_of_defects
from toolkit.evaluation.latency import UnderLimit
from toolkit.evaluation.scores import Evaluation, Split, ensure_evaluation, evaluate_artifact, judge
from toolkit.evaluation.simple_rule import SimpleRule, against_simple_rule
from toolkit.evaluation.slices import SliceReport, report_slices
from toolkit.runs import Run


class Questions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked beyond the figures; all of it is optional."""

    slices: list[str] = []
    slice_metric: str = "accuracy"
    protected: list[str] = []
    gallery: bool = False
    failures: Path | None = None
    keep: Path | None = None
    gates: list[Gate] = []
    gate_on: On = "bound"
    annotations: Path | None = None
    simple_rule: bool = False
    review: HumanReview | None = None
    folder: Path | None = None
    mapping: Mapping[str, str] = {}

    def any(self) -> bool:
        """Whether anything is asked."""
        return self != Questions()


class Findings(Evaluation, frozen=True, kw_only=True):
    """An evaluation with the answers to all questions; what was not asked is None or empty."""

    slices: list[SliceReport] = []
    equalised_odds: list[EqualisedOdds] = []
    mistakes: list[Mistake] = []
    gallery: str | None = None
    failures: FailureCheck | None = None
    kept_failures: int | None = None
    gates: list[GateResult] = []
    ceiling: Ceiling | None = None
    simple_rule: SimpleRule | None = None
    review: ReviewTable | None = None
    elsewhere: Elsewhere | None = None
    under_limit: UnderLimit | None = None

    def missed(self) -> list[str]:
        """What was not reached, a phrase each."""
        out = [gate.said() for gate in self.gates if not gate.passed]
        if self.failures is not None:
            out += [f"{self.artifact} calls {one.file} {one.said}, wanted {one.wanted}" for one in self.failures.failed]
        return out


def find(
    run: Run,
    name: str,
    questions: Questions,
    *,
    split: Split = "val",
    threads: int = 1,
    progress: Progress | None = None,
) -> Findings:
    """Evaluate an artifact, or "keras", answer the questions about it, and write its plots beside the evaluation.

    Raises:
        NotFound, BadInput, ParityFailed: the first question that cannot be answered says why.
    """
    if split == "test":
        _rehearse(run, name, questions, threads)
    answers = answers_of(run, name, split, threads=threads, progress=progress)
    evaluation = evaluate_artifact(run, name, split=split, threads=threads, answers=answers)
    judged = judge(run, answers, evaluation.temperature, elsewhere=split == "val")
    suffix = "" if split == "val" else f".{split}"
    folder = run.dir / "evaluation"
    title = f"{name}, {split}: {evaluation.images} images, {evaluation.groups} groups"
    plot_precision_recall(folder / f"{name}{suffix}.precision-recall.png", judged, evaluation.figures, title)
    plot_confusion(folder / f"{name}{suffix}.confusion.png", evaluation.confusion, evaluation.labels, title)
    more = _answer(run, name, questions, answers, judged, evaluation, threads, progress)
    if questions.gallery:
        path = folder / f"{name}{suffix}.mistakes.html"
        mistakes = find_mistakes(judged, answers)
        write_gallery(path, run.dataset().dir, f"{run.record.name}: mistakes of {title}", mistakes)
        more |= {"gallery": str(path), "mistakes": mistakes}
    found = Findings(**msgspec.structs.asdict(evaluation), **more)
    if questions.any():
        text = msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2)
        write_whole(folder / f"{name}{suffix}.findings.json", text + b"\n")
    return found


def _rehearse(run: Run, name: str, questions: Questions, threads: int) -> None:
    """Refuse a column or figure that there is not while nothing but the validation images has been looked at: each look
    at the test images is counted."""
    evaluation = ensure_evaluation(run, name, threads=threads)
    answers = answers_of(run, name, "val", threads=threads)
    for column in [*questions.slices, *questions.protected]:
        slices_of(answers, evaluation.labels, column)
    judge_gates(name, evaluation.figures, questions.gates, on=questions.gate_on)


def _answer(
    run: Run,
    name: str,
    questions: Questions,
    answers: Answers,
    judged: Judged,
    evaluation: Evaluation,
    threads: int,
    progress: Progress | None,
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "slices": report_slices(judged, answers, questions.slices, metric=questions.slice_metric)
        if questions.slices
        else [],
        "equalised_odds": [equalised_odds(judged, answers, column) for column in questions.protected],
        "gates": judge_gates(name, evaluation.figures, questions.gates, on=questions.gate_on),
    }
    if questions.annotations is not None:
        out["ceiling"] = measure_ceiling(answers, judged.names, read_annotations(questions.annotations, judged.names))
    rule = against_simple_rule(run, judged, answers, progress=progress) if questions.simple_rule else None
    out["simple_rule"] = rule
    if questions.review is not None:
        out["review"] = _review(run, judged, evaluation, questions.review, rule)
    if questions.folder is not None:
        out["elsewhere"] = evaluate_elsewhere(
            run, evaluation, questions.folder, mapping=questions.mapping, threads=threads, progress=progress
        )
    if questions.failures is not None:
        out["failures"] = check_failures(run, name, questions.failures, threads=threads)
    if questions.keep is not None:
        out["kept_failures"] = keep_failures(run, judged, answers, questions.keep)
    return out


def _review(
    run: Run, judged: Judged, evaluation: Evaluation, review: HumanReview, rule: SimpleRule | None
) -> ReviewTable:
    seen = float(np.mean(~judged.truth()[:, judged.good()].any(axis=1)))
    defects, where = share_of_defects(run.record.prevalence, [role == "defect" for role in judged.roles], seen)
    return compare_ways(
        evaluation.figures,
        review,
        defects=defects,
        prevalence_from=where,
        rule=rule,
        artifact=evaluation.artifact,
    )
