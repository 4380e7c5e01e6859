"""The operating point of a run: found through the artifact, saved, carried into the bundle, or refused."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.bundle import read_bundle
from device_agent.contract.errors import BadInput, BudgetMissed
from device_agent.contract.manifest import Label
from device_agent.decide import decide, defect_log_odds
from profiles.registry import load as load_profile
from toolkit.cli import cli
from toolkit.evaluation.answers import Answers, answers_of
from toolkit.evaluation.scaling import Scaling
from toolkit.operating_point.bounds import measure_share
from toolkit.operating_point.costs import Costs
from toolkit.operating_point.finding import Wanted, Weighing, deal_groups, find_operating_point, judge, rates, worst_of
from toolkit.operating_point.point import ClassEscape, point_path, read_operating_point, save_operating_point
from toolkit.packing import pack_run
from toolkit.runs import Run

NAME = "onnx-int8"
WANTED = Wanted(Costs(escape=500, overkill=2, review=0.5), {"good": 0.99})
PLAIN = Scaling(
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


def changed(run: Run, **fields: object) -> Run:
    return Run(run.dir, msgspec.structs.replace(run.record, **fields))


def test_figures_are_counted_on_groups_that_did_not_choose_the_band(tiny_run):
    flattered = 0.0
    for escape in (20, 100, 500):
        wanted = WANTED._replace(costs=Costs(escape=escape, overkill=2, review=0.5))
        point, judged = find_operating_point(tiny_run, NAME, wanted)
        images = judged.images
        assert point.crossfit == 10
        assert point.escape.events == np.sum(judged.passed & images.defect)
        own = rates(images, images.scores < point.low, images.scores >= point.high, wanted.costs)
        flattered += point.rates.cost_per_1000 - own.cost_per_1000
        assert point.rates.cost_per_1000 > own.cost_per_1000 - 1e-9
    assert flattered > 1


def test_the_rates_of_a_million_parts_follow_from_the_shares_and_the_prevalence(tiny_run):
    point, _ = find_operating_point(tiny_run, NAME, WANTED)
    rates = point.rates
    assert point.prevalence == pytest.approx([0.005, 0.005, 0.99])
    assert rates.escapes_per_million == pytest.approx(1e6 * 0.01 * point.escape.rate)
    assert rates.overkill_per_million == pytest.approx(1e6 * 0.99 * point.overkill.rate)
    assert rates.reviews_per_million == pytest.approx(1e6 * point.review.rate)
    money = rates.escapes_per_million * 500 + rates.overkill_per_million * 2 + rates.reviews_per_million * 0.5
    assert rates.cost_per_1000 == pytest.approx(money / 1000)
    assert point.escapes_upper_per_million == pytest.approx(1e4 * point.escape.upper)
    assert (point.accept_all, point.reject_all) == (pytest.approx(5000), pytest.approx(1980))


def test_the_device_decides_every_image_as_the_toolkit_scored_it(tiny_run):
    point, judged = find_operating_point(tiny_run, NAME, WANTED)
    logits, decision = answers_of(tiny_run, NAME, "val").logits, point.decision()
    fates = [decide(row, decision, tiny_run.labels) for row in logits]
    scores = judged.images.scores
    assert fates == ["pass" if score < point.low else "reject" if score >= point.high else "review" for score in scores]
    assert set(fates) == {"pass", "review", "reject"}
    good = np.array([label.role == "good" for label in tiny_run.labels])
    assert np.array_equal(defect_log_odds(logits, point.scale, point.shift, good), scores)


def test_a_line_with_fewer_defects_takes_a_part_for_good_more_readily(tiny_run):
    rare, _ = find_operating_point(tiny_run, NAME, WANTED._replace(prevalence={"good": 0.9999}))
    often, _ = find_operating_point(tiny_run, NAME, WANTED._replace(prevalence={"good": 0.7}))
    assert rare.rates.reviews_per_million < often.rates.reviews_per_million
    assert rare.shift[2] - often.shift[2] == pytest.approx(np.log(0.9999 / 0.7))


def test_the_worst_class_is_the_one_that_escapes_most(tiny_run):
    point, _ = find_operating_point(tiny_run, NAME, WANTED._replace(costs=Costs(escape=1, overkill=1)))
    by_rate = {one.label: one.escape.rate for one in point.by_class}
    assert set(by_rate) == {"bright", "dark"} and point.worst_class == max(by_rate, key=by_rate.get)
    assert all(one.together.upper > one.escape.upper for one in point.by_class)


def test_the_worst_class_is_the_one_whose_bound_the_manifest_carries():
    def escape(label, events, images):
        passed, groups = np.arange(images) < events, np.arange(images)
        return ClassEscape(
            label=label,
            prevalence=0.01,
            escape=measure_share(passed, groups, 0.95),
            together=measure_share(passed, groups, 0.975),
        )

    never, seldom = escape("never", 0, 100), escape("seldom", 3, 250)
    assert seldom.escape.upper > never.escape.upper
    assert worst_of([seldom, never]) is never


def test_the_bound_of_overkill_holds_for_the_band_that_the_line_gets():
    rng, held = np.random.default_rng(5), []
    for _ in range(60):
        parts = np.repeat(np.arange(450), rng.integers(1, 5, 450))
        defect = parts < 150
        alike = rng.normal(size=450)[parts]
        scores = 2.7 * (0.95 * alike + 0.31 * rng.normal(size=len(parts)) + 2.7 * (defect - 0.5))
        answers = Answers([], defect.astype(int), parts, np.stack([0 * scores, scores], axis=1), {}, None)
        counts = np.bincount(answers.labels)
        weighing = Weighing(np.array([True, False]), np.array([0.99, 0.01]), counts)
        judged = judge(answers, weighing, PLAIN, WANTED._replace(costs=Costs(escape=500, overkill=2)))
        share = measure_share(judged.rejected[~defect], parts[~defect], 0.95)
        threshold = judged.band.high - np.log(0.01 / 0.99 * counts[0] / counts[1])
        true = math.erfc((threshold / 2.7 + 1.35) / math.sqrt(2)) / 2
        held.append(share.upper >= true)
    assert np.mean(held) >= 0.93, np.mean(held)


def test_the_runs_own_prevalence_is_taken_where_none_is_stated(tiny_run):
    point, _ = find_operating_point(tiny_run, NAME, WANTED._replace(prevalence={}))
    assert point.prevalence == pytest.approx(tiny_run.record.prevalence)


def test_without_a_prevalence_nothing_is_chosen(tiny_run):
    with pytest.raises(BadInput, match="what the line makes is not stated"):
        find_operating_point(changed(tiny_run, prevalence=None), NAME, WANTED._replace(prevalence={}))


def test_without_a_good_class_nothing_is_chosen(tiny_run):
    labels = [Label(label.name, "defect") for label in tiny_run.labels]
    with pytest.raises(BadInput, match="no good class among bright, dark, good"):
        find_operating_point(changed(tiny_run, labels=labels), NAME, WANTED)


def test_defects_of_one_part_choose_nothing():
    with pytest.raises(BadInput, match="all defects among the validation images are of one group"):
        deal_groups(np.array([True, True, False, False]), np.array(["a", "a", "b", "c"]))


def test_vector_scaling_is_chosen_without_the_images_that_it_is_judged_on(tiny_run):
    point, judged = find_operating_point(tiny_run, NAME, WANTED._replace(kind="vector"))
    assert point.scaling.kind == "vector" and len(set(point.scale)) == 3
    assert point.escape.images == judged.images.defect.sum()


def test_a_saved_point_is_read_again_and_one_of_another_artifact_is_refused(tiny_run, put_artifact):
    point, _ = find_operating_point(tiny_run, NAME, WANTED)
    save_operating_point(tiny_run, point)
    assert read_operating_point(tiny_run, NAME) == point
    assert read_operating_point(tiny_run, "onnx-fp32") is None
    other = (tiny_run.artifact_dir("onnx-fp32") / "model.onnx").read_bytes()
    put_artifact(tiny_run, NAME, other)
    with pytest.raises(BadInput, match="of another artifact or other data"):
        read_operating_point(tiny_run, NAME)


def test_the_bundle_carries_the_decision_and_another_one_is_another_model(tiny_run, tiny_profiles, tmp_path):
    profile = load_profile("tiny", tiny_profiles)
    plain = pack_run(tiny_run, profile, tmp_path / "plain.lineside")
    ids = [plain.model_ids[0]]
    for escape in (500, 5):
        wanted = WANTED._replace(costs=Costs(escape=escape, overkill=2, review=0.5))
        point, _ = find_operating_point(tiny_run, NAME, wanted)
        save_operating_point(tiny_run, point)
        packed = pack_run(tiny_run, profile, tmp_path / f"{escape}.lineside")
        manifest = read_bundle(Path(packed.path)).manifest
        assert manifest.artifacts[0].decision == point.decision()
        assert manifest.artifacts[0].operating_point == pytest.approx(point.low_score)
        assert manifest.artifacts[1].decision is msgspec.UNSET
        assert packed.model_ids[1] == plain.model_ids[1]
        ids.append(packed.model_ids[0])
    assert len(set(ids)) == 3
    assert b"decision" not in (tmp_path / "plain.lineside").read_bytes()


@pytest.mark.parametrize("review", [None, 0.5])
def test_inspect_shows_the_band_and_its_bounds(tiny_run, tiny_profiles, tmp_path, review):
    wanted = WANTED._replace(costs=Costs(escape=500, overkill=2, review=review), confidence=0.999)
    point, _ = find_operating_point(tiny_run, NAME, wanted)
    save_operating_point(tiny_run, point)
    packed = pack_run(tiny_run, load_profile("tiny", tiny_profiles), tmp_path / "tiny.lineside")
    result = CliRunner().invoke(cli, ["inspect", packed.path])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    band = f"pass below {point.low:g}, reject from {point.high:g}"
    person = ", a person between" if review else ""
    assert [line for line in lines if line.startswith("decision")] == [
        f"decision   by the log-odds of a defect: {band}{person}"
    ]
    worst = max(one.together.upper for one in point.by_class)
    assert [line for line in lines if line.startswith("bounds")] == [
        f"bounds     escape at most {point.escape.upper:.2%} (worst class {worst:.2%}), overkill at most "
        f"{point.overkill.upper:.2%}, at 99.9 % confidence, measured on {point.images} images of {point.groups} groups"
    ]


def call(run: Run, *more: str) -> object:
    basis = ["operating-point", str(run.dir), "--escape-cost", "500", "--overkill-cost", "2", "--artifact", NAME]
    return CliRunner().invoke(cli, [*basis, *more])


def test_the_command_writes_a_document_and_a_plot_and_prints_the_same(tiny_run):
    result = call(tiny_run, "--prevalence", "good=0.99", "--json")
    assert result.exit_code == 0
    (printed,) = msgspec.json.decode(result.stdout)
    assert printed == msgspec.json.decode(point_path(tiny_run, NAME).read_bytes())
    assert point_path(tiny_run, NAME).with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert "more defect images" in call(tiny_run).stdout


def test_a_claim_that_is_not_shown_ends_with_the_code_of_a_missed_budget_and_is_saved(tiny_run):
    result = call(tiny_run, "--max-escape", "0.005")
    assert isinstance(result.exception, BudgetMissed)
    assert "an escape rate of 0.5 % is not shown" in str(result.exception)
    point = read_operating_point(tiny_run, NAME)
    assert point is not None and not point.claim_shown and point.escape.events == 0


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        (["--prevalence", "good=99"], "must read like"),
        (["--prevalence", "scratch=0.1"], "which is no class"),
        (["--confidence", "95"], "confidence must lie"),
        (["--max-escape", "5"], "must lie between 0 and 1"),
        (["--review-cost", "-1"], "review cost must be"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(tiny_run, options, saying):
    result = call(tiny_run, *options)
    assert isinstance(result.exception, BadInput) and saying in str(result.exception)
