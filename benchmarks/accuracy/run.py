"""How far accuracy without labels is off, what labels and golden parts find, and how often each is wrong.

python benchmarks/accuracy/run.py counts --seed 11 --images 1000    one part; its figures are added to parts.jsonl
python benchmarks/accuracy/run.py labels --seed 12
python benchmarks/accuracy/run.py golden --seed 13
python benchmarks/accuracy/run.py decay --seed 14
python benchmarks/accuracy/run.py render                 results.md from parts.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from lines import FAULTS, LABELS, PREVALENCE, Line, Watched, validate, watch

from device_agent.detector.evalue import phi_of_pairs
from fleet.accuracy.calibration import calibration
from fleet.accuracy.decay import expectation, labelled_findings
from fleet.accuracy.drawing import allocate, uncertainty
from fleet.accuracy.golden_test import GoldenTest, judge_runs
from fleet.accuracy.labelled import estimate_labelled
from fleet.accuracy.labels import Truth
from fleet.accuracy.unlabelled import estimate
from fleet.accuracy.validation import Validation
from fleet.models import Model

HERE = Path(__file__).parent
FIGURES = (("accuracy", ""), ("recall", "defect"), ("precision", "defect"))
WITHIN = {"accuracy": 0.02, "recall": 0.10, "precision": 0.10}
"""An estimate that is nearer to the truth is called right: half of the width that a badge allows."""


def counts(seed: int, runs: int = 60, images: int = 1000) -> list[dict]:
    """Counts alone: error of every method, coverage of the limits, and how often each badge is right."""
    rng = np.random.default_rng(seed)
    out = []
    for fault in FAULTS:
        rows = [_look(images, fault, rng) for _ in range(runs)]
        for figure in FIGURES:
            out.append(_summary(images, fault, figure, [row[figure] for row in rows]) | {"seed": seed})
    return out


def _look(images: int, fault: str, rng: np.random.Generator) -> dict:
    """Truth, judgement and each method's value of every figure, of one new line for a day and a new validation set."""
    validation = Validation.of(LABELS, validate(images, rng))
    line = watch(Line.draw(rng), fault, 24, rng)
    found = estimate(validation, line.seen, _independent(line), rng)
    truth = line.figures()
    return {
        figure: (
            truth[figure],
            found.judged(*figure),
            {one.method: one.interval.value for one in found.estimates if (one.figure, one.of) == figure},
        )
        for figure in FIGURES
    }


def _independent(line: Watched) -> float:
    frames = int(line.seen.sum())
    agree = ((line.seen / frames) ** 2).sum()
    return frames / float(phi_of_pairs(np.array(float(line.same)), np.array(frames - 1.0), np.array(agree)))


def _summary(images: int, fault: str, figure: tuple[str, str], rows: list[tuple]) -> dict:
    truth = np.array([row[0] for row in rows])
    value = np.array([row[1].interval.value for row in rows])
    inside = [row[1].interval.low <= row[0] <= row[1].interval.high for row in rows]
    right = np.abs(value - truth) <= WITHIN[figure[0]]
    badges = np.array([row[1].badge for row in rows])
    return {
        "part": "counts",
        "images": images,
        "fault": fault,
        "figure": figure[0],
        "runs": len(rows),
        "truth": float(truth.mean()),
        "estimate": float(value.mean()),
        "bias": {m: float(np.mean([row[2][m] - row[0] for row in rows if m in row[2]])) for m in rows[0][2]},
        "covered": float(np.mean(inside)),
        "width": float(np.mean([row[1].interval.width for row in rows])),
        "badges": {
            badge: {"shown": int((badges == badge).sum()), "estimate_right": int(right[badges == badge].sum())}
            for badge in ("identified", "not identified", "needs labels")
        },
    }


def labels(seed: int, runs: int = 200, budget: int = 200) -> list[dict]:
    """Recall from 200 labels: drawn by Neyman's allocation against drawn at random, and coverage of the limits."""
    rng = np.random.default_rng(seed)
    out = []
    for fault in FAULTS:
        rows = [_label(fault, budget, rng) for _ in range(runs)]
        truth, drawn, chance = (np.array([row[k] for row in rows]) for k in range(3))
        known = np.isfinite(chance)
        out.append(
            {
                "part": "labels",
                "seed": seed,
                "fault": fault,
                "runs": runs,
                "budget": budget,
                "truth": float(truth.mean()),
                "rmse_neyman": float(np.sqrt(((drawn - truth) ** 2).mean())),
                "rmse_random": float(np.sqrt(((chance - truth)[known] ** 2).mean())),
                "random_undefined": int((~known).sum()),
                "covered": float(np.mean([row[3] for row in rows])),
                "width": float(np.mean([row[4] for row in rows])),
                "covered_accuracy": float(np.mean([row[5] for row in rows])),
            }
        )
    return out


def _label(fault: str, budget: int, rng: np.random.Generator) -> tuple[float, ...]:
    """Truth, Neyman's estimate, the plain one of a random draw (nan without a defect), whether the limits hold the
    truth, their width, and whether those of accuracy do. A sample is a part; all are in the archive."""
    bands = Validation.of(LABELS, validate(1000, rng)).bands()
    line = watch(Line.draw(rng), fault, 8, rng)
    truth = line.figures()
    parts = line.parts
    stratum = bands.stratum[parts[:, 1]]
    weight = bands.pool(line.seen.ravel().astype(float))
    table = _draw(bands, parts, stratum, weight / weight.sum(), budget, rng)
    found = estimate_labelled(bands, weight, table, rng)
    each = parts[rng.choice(len(parts), budget, replace=False, p=parts[:, 2] / parts[:, 2].sum())]
    bad = each[each[:, 0] == 1]
    plain = float((bad[:, 1] >= 24).mean()) if len(bad) else float("nan")
    recall, accuracy = truth["recall", "defect"], truth["accuracy", ""]
    return (
        recall,
        found.recall.value,
        plain,
        found.recall.low <= recall <= found.recall.high,
        found.recall.width,
        found.accuracy.low <= accuracy <= found.accuracy.high,
    )


def _draw(bands, parts, stratum, weight, budget, rng):
    """Labels (classes, strata) of parts drawn by the allocation."""
    available = np.bincount(stratum, minlength=len(weight))
    table = np.zeros_like(bands.counts)
    for k, number in enumerate(allocate(weight, uncertainty(bands, weight, "recall"), available, budget)):
        chosen = rng.choice(np.flatnonzero(stratum == k), number, replace=False)
        table[:, k] = np.bincount(parts[chosen, 0], minlength=2)
    return table


def golden(seed: int, runs: int = 2000, years: int = 2000) -> list[dict]:
    """Golden parts, 12 a day: days until a fall of recall from 0.95 is found, and false alarms while there is none."""
    rng = np.random.default_rng(seed)
    out = []
    for fallen in (0.80, 0.60, 0.30):
        delays = []
        for _ in range(runs):
            before = int(rng.integers(0, 12 * 60))
            answers = np.r_[rng.random(before) < 0.95, rng.random(12 * 120) < fallen]
            alarm = judge_runs([(bool(one), 0.95) for one in answers], 12 * 365).alarm
            if alarm is not None and alarm < before:
                continue
            delays.append(np.inf if alarm is None else (alarm - before + 1) / 12)
        quartiles = np.quantile(delays, [0.25, 0.5, 0.75, 0.95])
        out.append(
            {
                "part": "golden",
                "seed": seed,
                "recall": fallen,
                "runs": len(delays),
                "days": [float(q) for q in quartiles],
            }
        )
    for claim in (0.95, 0.99):
        alarms = 0
        for _ in range(years):
            test = GoldenTest.start(12 * 365)
            for right in rng.random(12 * 365) < claim:
                if test.add(bool(right), claim):
                    alarms += 1
                    test = GoldenTest.start(12 * 365)
        out.append({"part": "false", "seed": seed, "claim": claim, "years": years, "alarms": alarms, "promised": years})
    return out


def decay(seed: int, runs: int = 200) -> list[dict]:
    """What 200 labels find: a fall of recall that is there, one that is not, and a calibration that changed or not."""
    rng = np.random.default_rng(seed)
    out = []
    for fault in FAULTS:
        falls, changed = 0, 0
        for _ in range(runs):
            validation = Validation.of(LABELS, validate(1000, rng))
            bands = validation.bands()
            line = watch(Line.draw(rng), fault, 8, rng)
            weight = bands.pool(line.seen.ravel().astype(float))
            stratum = bands.stratum[line.parts[:, 1]]
            table = _draw(bands, line.parts, stratum, weight / weight.sum(), 200, rng)
            found = estimate_labelled(bands, weight, table, rng)
            judged = calibration(bands, line.seen.ravel().astype(float), table, rng)
            model = Model(model="0" * 16, name="line", runtime="-", precision="-", labels=LABELS)
            told = [Truth("a", "d", "m", 0, 0, 0, "good", 1)]
            kinds = [one.figure for one in labelled_findings(model, expectation(validation), found, told, judged)]
            falls += any(kind in ("accuracy", "recall") for kind in kinds)
            changed += "ece" in kinds
        out.append({"part": "decay", "seed": seed, "fault": fault, "runs": runs, "falls": falls, "changed": changed})
    return out


def render() -> str:
    """The tables of what was measured."""
    rows = [json.loads(line) for line in (HERE / "parts.jsonl").read_text().splitlines()]
    text = [
        "# Accuracy without and with labels\n",
        "All measured on simulated lines (`lines.py`: the mixture of docs/guides/drift.md with the true class of every "
        "part), one new line a run, watched for a day (labels: 8 hours) at 600 frames a minute, parts two seconds in "
        "view, 1.2 % defects, a validation set of its own, half of it defects. Seeds: "
        + ", ".join(f"{part} {seed}" for part, seed in sorted({(row["part"], row["seed"]) for row in rows}))
        + ".\n",
        "## From counts alone\n",
        "An estimate is called right within 2 points of accuracy and 10 of recall and precision. Each badge: how often "
        "shown, and how often the estimate was right then.\n",
        "| images | line | figure | truth | estimate | limits hold | width "
        "| identified | not identified | needs labels |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if row["part"] == "counts"):
        badges = [f"{b['shown']}, right {b['estimate_right']}" if b["shown"] else "–" for b in row["badges"].values()]
        text.append(
            f"| {row['images']} | {row['fault']} | {row['figure']} | {row['truth']:.3f} | {row['estimate']:.3f} | "
            f"{row['covered']:.0%} of {row['runs']} | {row['width']:.3f} | {' | '.join(badges)} |"
        )
    text += ["\nMean error of each method in points, 1,000 images:\n", "| line | figure | atc | cbpe | em | bbse |"]
    text.append("| --- | --- | --- | --- | --- | --- |")
    for row in (row for row in rows if row["part"] == "counts" and row["images"] == 1000):
        biases = [f"{100 * row['bias'][m]:+.1f}" if m in row["bias"] else "–" for m in ("atc", "cbpe", "em", "bbse")]
        text.append(f"| {row['fault']} | {row['figure']} | {' | '.join(biases)} |")
    text += [
        "\n## From 200 labels\n",
        "Root mean square error of recall in points. Random: 200 parts drawn from all frames alike, runs without a "
        "defect among them left out.\n",
        "| line | true recall | Neyman | random | random without a defect | limits hold: recall | width | accuracy |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if row["part"] == "labels"):
        text.append(
            f"| {row['fault']} | {row['truth']:.3f} | {100 * row['rmse_neyman']:.1f} | "
            f"{100 * row['rmse_random']:.1f} | {row['random_undefined']} of {row['runs']} | {row['covered']:.1%} | "
            f"{row['width']:.2f} | {row['covered_accuracy']:.1%} |"
        )
    text += [
        "\n## What 200 labels find\n",
        "| line | a fall of accuracy or recall said | a changed calibration said |",
        "| --- | --- | --- |",
    ]
    for row in (row for row in rows if row["part"] == "decay"):
        text.append(f"| {row['fault']} | {row['falls']} of {row['runs']} | {row['changed']} of {row['runs']} |")
    text += [
        "\n## Golden parts\n",
        "12 a day, claimed recall 0.95, at most one false alarm a year and line. Days from the fall to the alarm:\n",
        "| recall falls to | runs | 25 % | median | 75 % | 95 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if row["part"] == "golden"):
        text.append(f"| {row['recall']} | {row['runs']} | " + " | ".join(f"{day:.2f}" for day in row["days"]) + " |")
    text += [
        "\n| healthy, recall just as claimed | years | false alarms | promised at most |",
        "| --- | --- | --- | --- |",
    ]
    for row in (row for row in rows if row["part"] == "false"):
        text.append(f"| {row['claim']} | {row['years']} | {row['alarms']} | {row['promised']} |")
    return "\n".join(text) + f"\n\nPrevalence stated: {PREVALENCE:.2%}; lines differ by a factor of e^0.3 (one sd).\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["counts", "labels", "golden", "decay", "render"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--images", type=int, help="of validation, for counts")
    parser.add_argument("--dry", action="store_true", help="print, do not add to parts.jsonl")
    given = parser.parse_args()
    if given.part == "render":
        (HERE / "results.md").write_text(render())
        return
    part = {"counts": counts, "labels": labels, "golden": golden, "decay": decay}[given.part]
    rows = part(given.seed, **{name: value for name in ("runs", "images") if (value := getattr(given, name))})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    print(lines, end="")
    if not given.dry:
        with (HERE / "parts.jsonl").open("a") as file:
            file.write(lines)


if __name__ == "__main__":
    main()
