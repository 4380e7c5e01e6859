"""Whether the bound on the escape rate holds, how far above the truth it lies, and how well artifacts are calibrated.

python benchmarks/operating_point/run.py simulate     clustered scores whose true escape rate is known
python benchmarks/operating_point/run.py xsdd         the pooled answers of the X-SDD folds as the population
python benchmarks/operating_point/run.py ece          calibration error of every artifact, pooled over the folds
python benchmarks/operating_point/run.py table        all of them; with --write also to results.md

The X-SDD stages need the runs of benchmarks/xsdd (--runs); their answers are kept in the runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.files import write_whole
from toolkit.evaluation.answers import Answers, answers_of
from toolkit.evaluation.calibration import error, error_interval, fit_temperature
from toolkit.evaluation.metrics import softmax
from toolkit.evaluation.scaling import Scaling, choose_scaling
from toolkit.operating_point.bounds import clopper_pearson_upper, measure_share
from toolkit.operating_point.costs import Costs, prior_shift
from toolkit.operating_point.finding import Judged, Wanted, Weighing, judge
from toolkit.runs import Run, open_run

HERE = Path(__file__).parent
SEED, DRAWS, CONFIDENCE = 0, 1000, 0.95
COVERAGE, MOST_TIMES, MOST_ECE = 93.5, 2.0, 2.0
COSTS, SHARES = Costs(escape=500, overkill=2), np.array([0.99, 0.01])
ENOUGH = 12.0  # escaping parts in a draw: with fewer, even independent images give a bound over twice the truth
WAYS = ("kept", "images", "own")
RATIOS = (0.1, 0.01)  # of the costs of an escape and of overkill, as if classes were as frequent as 1 to 99
HEAD = (
    "| {first} | defect parts | images | true escape % | escaping parts | coverage % | bound / truth | "
    "images as if independent: coverage % | chosen and bounded on the same: coverage % | aim |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


class Drawn(NamedTuple):
    """One resampling: images (defect scores of two-class answers), and the true escape rate of a threshold on them."""

    answers: Answers
    escape: Callable[[float], float]


class Outcome(NamedTuple):
    """Of one resampling: true escape rate, the bound by each of WAYS, defect images, and defect groups."""

    truth: float
    bounds: dict[str, float]
    images: int
    groups: int


def as_answers(scores: NDArray[np.float64], defect: NDArray[np.bool_], groups: NDArray[np.generic]) -> Answers:
    """Answers of a model with the classes good and defect, whose log-odds of a defect are `scores`."""
    logits = np.stack([np.zeros(len(scores)), scores], axis=1)
    return Answers([], defect.astype(np.int64), groups, logits, {}, None)  # type: ignore[arg-type]


def outcome(drawn: Drawn, costs: Costs) -> Outcome:
    """The product's own judgement of a resampling, beside two plainer ways."""
    answers = drawn.answers
    counts = np.bincount(answers.labels, minlength=2)
    weighing = Weighing(np.array([True, False]), SHARES, counts)
    judged = judge(answers, weighing, _as_it_is(), Wanted(costs, {}))
    shift = prior_shift(SHARES, counts)
    truth = drawn.escape(judged.band.low - (shift[1] - shift[0]))
    own = judged.images.scores < judged.band.low
    kept = _bound(judged, judged.passed)
    count = int(judged.images.defect.sum())
    events = float((judged.passed & judged.images.defect).sum())
    bounds = {
        "kept": kept.upper,
        "images": clopper_pearson_upper(events, count, CONFIDENCE),
        "own": _bound(judged, own).upper,
    }
    return Outcome(truth, bounds, count, kept.groups)


def _bound(judged: Judged, passed: NDArray[np.bool_]):  # type: ignore[no-untyped-def]
    images = judged.images
    return measure_share(passed[images.defect], images.groups[images.defect], CONFIDENCE)


def _as_it_is() -> Scaling:
    return Scaling(
        kind="temperature",
        scale=[1.0, 1.0],
        shift=[0.0, 0.0],
        temperature=1.0,
        nll={},
        ece={},
        top_changed=0.0,
        images=0,
        groups=0,
    )


def line(name: str, outcomes: list[Outcome]) -> str:
    """A row of the table."""
    truth = np.array([each.truth for each in outcomes])
    bounds = {way: np.array([each.bounds[way] for each in outcomes]) for way in WAYS}
    covered = {way: 100 * float(np.mean(bounds[way] >= truth)) for way in WAYS}
    groups = float(np.median([each.groups for each in outcomes]))
    times = float(np.median(bounds["kept"]) / np.median(truth))
    escaping = groups * float(np.median(truth))
    few = escaping < ENOUGH
    tight = times <= MOST_TIMES
    verdict = (
        ("met" if tight else "missed: few parts*" if few else "missed") if covered["kept"] >= COVERAGE else "missed"
    )
    cells = [
        name,
        f"{groups:.0f}",
        f"{np.median([each.images for each in outcomes]):.0f}",
        f"{100 * np.median(truth):.2f}",
        f"{escaping:.1f}",
        f"{covered['kept']:.1f}",
        f"{times:.2f}" + ("*" if few else ""),
        f"{covered['images']:.1f}",
        f"{covered['own']:.1f}",
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


# ---- simulated parts ----


class World(NamedTuple):
    """Parts of `sizes` photographs; scores of good parts are normal around 0 and of defects around `apart`, with the
    share `alike` of their variance common to a part."""

    parts: int
    sizes: str
    alike: float
    apart: float

    def draw(self, rng: np.random.Generator) -> Drawn:
        """As many defect parts and twice as many good ones."""
        count = np.array([self.parts, 2 * self.parts])
        sizes = _sizes(self.sizes, int(count.sum()), rng)
        part = np.repeat(np.arange(count.sum()), sizes)
        defect = part < self.parts
        noise = math.sqrt(self.alike) * rng.normal(size=count.sum())[part]
        noise = noise + math.sqrt(1 - self.alike) * rng.normal(size=len(part))
        scores = self.apart * (noise + self.apart * (defect - 0.5))  # the true log-odds of one photograph
        return Drawn(as_answers(scores, defect, part), self.escape)

    def escape(self, threshold: float) -> float:
        """The true share of photographs of defects with a score below the threshold."""
        return 0.5 * math.erfc((self.apart / 2 - threshold / self.apart) / math.sqrt(2))


def _sizes(kind: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if kind == "1":
        return np.ones(count, np.int64)
    if kind == "1 to 7":
        return rng.integers(1, 8, count)
    return np.ceil(rng.lognormal(0.8, 0.9, count)).astype(np.int64)


PARTS = {4.25: (1500,), 3.6: (700,), 2.7: (300, 60)}  # how far apart the scores are: defect parts
KINDS = (("1", 0.0), ("1 to 7", 0.3), ("1 to 7", 0.9), ("lognormal", 0.9))


def simulate(draws: int) -> list[str]:
    """The table of simulated worlds."""
    lines = ["## Simulated parts", "", HEAD[0].format(first="photographs a part, alike"), HEAD[1]]
    for apart, sizes_of_draws in PARTS.items():
        for parts, (sizes, alike) in itertools.product(sizes_of_draws, KINDS):
            rng, world = np.random.default_rng(SEED), World(parts, sizes, alike, apart)
            found = [outcome(world.draw(rng), COSTS) for _ in range(draws)]
            lines.append(line(f"{sizes}, {alike:g}", found))
            print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


# ---- X-SDD ----


def pooled(runs: list[Run], name: str) -> tuple[Answers, NDArray[np.float64]]:
    """Answers of all folds to the images that were out of them, and their logits over the fold's own temperature, which
    its validation images gave."""
    parts = [answers_of(run, name, "test") for run in runs]
    scaled = []
    for run, part in zip(runs, parts, strict=True):
        fit_on = answers_of(run, name, "val")
        scaled.append(np.asarray(part.logits, np.float64) / fit_temperature(fit_on.logits, fit_on.labels))
    groups = np.concatenate([part.groups for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    logits = np.concatenate(scaled)
    return Answers([], labels, groups, logits.astype(np.float32), {}, None), logits


def xsdd(folder: Path, draws: int) -> list[str]:
    """The table of resampled groups of X-SDD: it has no good class, so each class in turn is taken for good."""
    lines = ["## X-SDD, resampled", "", HEAD[0].format(first="artifact, class taken for good, cost ratio"), HEAD[1]]
    runs = open_runs(folder)
    labels = [label.name for label in runs[0].labels]
    for name in ("litert-int8",):
        population, logits = pooled(runs, name)
        for good in np.argsort(-np.bincount(population.labels))[:3]:
            scores = _log_odds(logits, int(good))
            defect = population.labels != good
            for ratio in RATIOS:
                costs = Costs(escape=ratio * 99, overkill=1)
                draw = _resampler(scores, defect, population.groups)
                rng = np.random.default_rng(SEED)
                found = [outcome(draw(rng), costs) for _ in range(draws)]
                lines.append(line(f"{name}, {labels[good]}, {ratio:g}", found))
                print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def _resampler(
    scores: NDArray[np.float64], defect: NDArray[np.bool_], groups: NDArray[np.str_]
) -> Callable[[np.random.Generator], Drawn]:
    """Draws as many groups as there are, with replacement; a group drawn twice is two parts."""
    _, group = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group == one) for one in range(int(group.max()) + 1)]
    flawed = np.sort(scores[defect])

    def escape(threshold: float) -> float:
        return float(np.searchsorted(flawed, threshold) / len(flawed))

    def draw(rng: np.random.Generator) -> Drawn:
        chosen = rng.integers(0, len(members), len(members))
        rows = np.concatenate([members[one] for one in chosen])
        part = np.repeat(np.arange(len(chosen)), [len(members[one]) for one in chosen])
        return Drawn(as_answers(scores[rows], defect[rows], part), escape)

    return draw


def _log_odds(logits: NDArray[np.float64], good: int) -> NDArray[np.float64]:
    others = np.delete(logits, good, axis=1)
    peak = others.max(axis=1)
    return np.asarray(peak + np.log(np.exp(others - peak[:, None]).sum(axis=1)) - logits[:, good])


def ece(folder: Path) -> list[str]:
    """The table of calibration errors."""
    lines = [
        "## Calibration",
        "",
        "Expected calibration error, 15 bins of equally many answers, pooled over the folds; temperature and the "
        "choice of vector scaling on each fold's own validation images. The interval is 95 %, over groups.",
        "",
        "| artifact | images | before % | temperature % (95 %) | as chosen % | vector scaling chosen | aim |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    runs = open_runs(folder)
    for name in sorted(set.intersection(*(set(run.artifacts()) for run in runs))):
        parts = [answers_of(run, name, "test") for run in runs]
        raw, temperate, chosen, vectors = [], [], [], 0
        for run, part in zip(runs, parts, strict=True):
            val = answers_of(run, name, "val")
            temperature = fit_temperature(val.logits, val.labels)
            scaling = choose_scaling(val.logits, val.labels, val.groups, temperature)
            vectors += scaling.kind == "vector"
            raw.append(softmax(part.logits))
            temperate.append(softmax(np.asarray(part.logits, np.float64) / temperature))
            chosen.append(scaling.affine.probabilities(part.logits))
        labels, groups = (np.concatenate([getattr(part, field) for part in parts]) for field in ("labels", "groups"))
        before, after, best = (100 * error(np.concatenate(each), labels) for each in (raw, temperate, chosen))
        low, high = error_interval(np.concatenate(temperate), labels, groups, rng=np.random.default_rng(SEED))
        met = "met" if best < MOST_ECE else "missed"
        interval = f"{after:.2f} ({100 * low:.2f} to {100 * high:.2f})"
        lines.append(
            f"| {name} | {len(labels)} | {before:.2f} | {interval} | {best:.2f} | {vectors} of {len(runs)} | {met} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def open_runs(folder: Path) -> list[Run]:
    """The runs of the folds."""
    runs = [open_run(path) for path in sorted(folder.glob("fold-*"))]
    if not runs:
        sys.exit(f"{folder}: no fold-* there; make them with benchmarks/xsdd/run.py")
    return runs


def preamble(draws: int) -> list[str]:
    """What the tables mean."""
    return [
        "# Operating point: measured",
        "",
        f"Seed {SEED}, {draws} resamplings of parts a row, confidence {100 * CONFIDENCE:g} %, one-sided. In each, the "
        "band is chosen and judged by the product's own code: ten folds of parts, each judged by the threshold that "
        "the other nine chose; the truth is the escape rate of the threshold that the line would get. Aim: coverage "
        f"at least {COVERAGE:g} %, median bound at most {MOST_TIMES:g} times the median truth; where fewer than "
        f"{ENOUGH:g} parts are expected to escape (*), even Clopper and Pearson's bound of independent images lies "
        "near or over twice the truth: no bound that holds can be tighter there, only more defect parts help.",
        "",
        "The last two columns of coverage are for comparison: Clopper-Pearson on images as if each were a part, and "
        "the same bound where the threshold was chosen on the very images that bound it.",
        "",
    ]


def main() -> None:
    """Do one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["simulate", "xsdd", "ece", "table"])
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"resamplings a row (default {DRAWS})")
    parser.add_argument("--runs", type=Path, default=Path("runs/xsdd/default/seed-0"), help="folder of fold-*")
    parser.add_argument("--write", action="store_true", help="with table: write results.md")
    given = parser.parse_args()
    print(f"seed {SEED}, {given.draws} resamplings", file=sys.stderr)
    lines = preamble(given.draws)
    if given.stage in ("simulate", "table"):
        lines += simulate(given.draws)
    if given.stage in ("xsdd", "table"):
        lines += xsdd(given.runs, given.draws)
    if given.stage in ("ece", "table"):
        lines += ece(given.runs)
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if given.write and given.stage == "table":
        write_whole(HERE / "results.md", text)


if __name__ == "__main__":
    main()
