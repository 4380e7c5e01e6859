"""Several runs side by side: what was asked differently, what came of it, and whether the difference is real."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from device_agent.contract.errors import BadInput
from toolkit.evaluation.answers import Split
from toolkit.evaluation.comparison import Side, compare_models
from toolkit.evaluation.paired import Difference
from toolkit.evaluation.scores import Evaluation, ensure_evaluation, evaluate_artifact
from toolkit.runs import Run

FIGURE = "macro-f1"
Progress = Callable[[str], None]


class AblationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run: what it was asked where the runs differ, its figures, and its gain in macro-F1 over the first run on
    the `common` images that neither was trained on; where there is none, `why_not` says so."""

    run: str
    asked: dict[str, Any]
    evaluation: Evaluation
    gain: Difference | None = None
    common: int = 0
    why_not: str = ""


class Ablation(msgspec.Struct, frozen=True, kw_only=True):
    """Runs in the order in which they were given. `fields` are those of the recipe in which they differ, `same_data`
    whether all were made of the same images, classes and groups, `same_split` whether all were split alike."""

    artifact: str
    split: Split
    fields: list[str]
    same_data: bool
    same_split: bool
    rows: list[AblationRow]


def ablate(
    runs: Sequence[Run], *, artifact: str = "keras", split: Split = "val", progress: Progress | None = None
) -> Ablation:
    """The table of at least two runs; the first is what the others are compared with.

    Raises:
        BadInput: fewer than two runs, or one that was given twice.
        NotFound: a run lacks the artifact.
    """
    folders = [run.dir.resolve() for run in runs]
    if len(runs) < 2:
        raise BadInput("an ablation compares at least two runs")
    if len(set(folders)) < len(folders):
        raise BadInput("a run is given twice; once is enough")
    fields = varying([run.record.recipe for run in runs])
    rows = []
    for run in runs:
        if progress is not None:
            progress(f"{run.dir}: {artifact}, {split} images ...")
        rows.append(_row(runs[0], run, fields, artifact, split))
    same = len({run.record.data_sha256 for run in runs}) == 1
    alike = len({run.record.split_sha256 for run in runs}) == 1
    return Ablation(artifact=artifact, split=split, fields=fields, same_data=same, same_split=alike, rows=rows)


def varying(recipes: Sequence[dict[str, Any]]) -> list[str]:
    """The fields that are not the same in all recipes; one that a recipe lacks counts as None.

    >>> varying([{"lr": 0.1, "seed": 0}, {"lr": 0.2, "seed": 0, "ema": 0.9}])
    ['ema', 'lr']
    """
    names = sorted(set().union(*recipes))
    return [name for name in names if any(recipe.get(name) != recipes[0].get(name) for recipe in recipes)]


def _row(first: Run, run: Run, fields: list[str], artifact: str, split: Split) -> AblationRow:
    evaluation = evaluate_artifact(run, artifact, split=split) if split == "test" else ensure_evaluation(run, artifact)
    gain, common, why_not = None, 0, ""
    if run is not first:
        try:
            compared = compare_models(Side(first, artifact), Side(run, artifact), split=split, common=True)
            gain, common = compared.figures[FIGURE], compared.images
        except BadInput as error:
            why_not = str(error)
    asked = {name: run.record.recipe.get(name) for name in fields}
    return AblationRow(run=str(run.dir), asked=asked, evaluation=evaluation, gain=gain, common=common, why_not=why_not)


def plain(value: Any) -> str:
    """A value of a recipe as a cell of a table.

    >>> plain(None), plain(0.00030000000000000003), plain({"teachers": ["ab", "cd"], "temperature": 4.0})
    ('-', '0.0003', 'teachers 2, temperature 4')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {len(one) if isinstance(one, list) else plain(one)}" for name, one in value.items())
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def csv_table(table: Ablation) -> str:
    """The table as comma-separated values, one line a run, figures in [0, 1]."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    figures = ["images", "groups", "accuracy", "macro_f1", "macro_f1_low", "macro_f1_high", "ece"]
    lines.writerow(["run", *table.fields, *figures, "gain", "gain_low", "gain_high", "common_images"])
    for row in table.rows:
        one, gain = row.evaluation, row.gain
        measured = [one.images, one.groups, one.accuracy, one.macro_f1, *one.macro_f1_interval, one.ece]
        gained = ["", "", ""] if gain is None else [gain.value, gain.low, gain.high]
        lines.writerow([row.run, *(plain(value) for value in row.asked.values()), *measured, *gained, row.common])
    return out.getvalue()
