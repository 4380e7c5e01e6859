"""Golden parts: a fall is found soon, a healthy line is left in peace, and wrong rows are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from fleet.accuracy.golden import GoldenPart, GoldenRun, add_part, record_runs
from fleet.accuracy.golden_states import compare_models, golden_findings, states
from fleet.accuracy.golden_test import GoldenTest, judge_runs
from fleet.cli import cli
from fleet.detector_fleet import Settings
from fleet.inbox import read_batch
from fleet.ingest import Ingest
from fleet.models import read_models
from fleet.triggers.measured import measured_facts
from tests.fleet.accuracy.conftest import MINUTE_MS, NOW_MS

HOUR_MS = 3_600_000


def run(filled, *arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--store", filled.plant.url], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def record(
    filled, device: str, answers: list[str], *, model: str | None = None, first_ms: int = NOW_MS - 10**9
) -> None:
    runs = [
        GoldenRun(device, first_ms + k * 2 * HOUR_MS, "plate-1", model or filled.model, answer, NOW_MS)
        for k, answer in enumerate(answers)
    ]
    with filled.engine.begin() as tx:
        add_part(tx, GoldenPart("plate-1", "scratch", 0.95, NOW_MS), read_models(tx))
        record_runs(tx, runs)


def findings(filled):
    with filled.engine.connect() as tx:
        return golden_findings(tx, read_models(tx))


def test_a_fall_to_sixty_percent_is_found_within_the_promised_days():
    rng, delays = np.random.default_rng(1), []
    for _ in range(200):
        answers = np.r_[rng.random(120) < 0.95, rng.random(600) < 0.6]
        alarm = judge_runs([(bool(one), 0.95) for one in answers], 12 * 365).alarm
        if alarm is None or alarm >= 120:
            delays.append(np.inf if alarm is None else (alarm - 119) / 12)
    assert len(delays) > 190 and np.median(delays) <= 2.7


def test_a_line_that_holds_its_claim_raises_no_more_than_promised():
    """A promise of one in 500 runs, so that 200 x 500 runs may raise 200 at most; twice its error is allowed for."""
    rng, alarms = np.random.default_rng(2), 0
    test = GoldenTest.start(500)
    for right in rng.random(100_000) < 0.95:
        if test.add(bool(right), 0.95):
            alarms += 1
            test = GoldenTest.start(500)
    assert 0 < alarms <= 200 + 2 * np.sqrt(200)


def test_a_failure_is_critical_says_since_when_and_may_pull_a_trigger(filled):
    record(filled, "press-1", ["scratch"] * 40 + ["good"] * 5)
    record(filled, "press-2", ["scratch"] * 45)
    (found,) = findings(filled)
    assert (found.severity, found.scope, found.kind, found.may_trigger, found.reason) == (
        "critical", "press-1", "golden", True, "golden",
    )  # fmt: skip
    assert found.onset_ms == NOW_MS - 10**9 + 40 * 2 * HOUR_MS and found.parts == 5
    assert found.value == 0 and found.high < 0.95 <= found.claim
    assert "press-1: golden parts answered rightly 0% (0% to 52%) of 5 since" in found.text
    assert "FELL" in run(filled, "golden", "status") and findings(filled) == [found]
    record(filled, "press-1", ["scratch"] * 40 + ["good"] * 5 + ["good"])
    assert [one.id for one in findings(filled)] == [found.id], "more of the same is the same finding"


def test_a_line_begins_anew_when_it_is_put_right_or_its_model_changes(filled):
    record(filled, "press-1", ["good"] * 6)
    record(filled, "press-2", ["good"] * 6)
    assert len(findings(filled)) == 2
    run(filled, "golden", "reset", "press-1", "--reason", "lens cleaned")
    record(filled, "press-2", ["scratch"], model=filled.plant.model_ids[1].hex(), first_ms=NOW_MS)
    assert findings(filled) == []
    with pytest.raises(NotFound, match="no part ever went through 'press-9'"):
        run(filled, "golden", "reset", "press-9", "--reason", "x")


def test_the_monitor_tells_of_a_line_that_fails_its_golden_parts_until_it_is_put_right(filled):
    ingest, now_ms = Ingest(filled.engine, Settings()), NOW_MS

    def turn():
        nonlocal now_ms
        now_ms += 60_000
        return [
            (one.what, one.alert.scope, one.alert.severity) for one in ingest.process(read_batch([]), now_ms).changes
        ]

    record(filled, "press-1", ["scratch"] * 40)
    assert turn() == []
    record(filled, "press-1", ["scratch"] * 40 + ["good"] * 5)
    assert turn() == [("opened", "press-1", "critical")]
    assert turn() == [], "it is told of once"
    ingest = Ingest(filled.engine, Settings())
    assert turn() == [], "also by a monitor that was started anew"
    run(filled, "golden", "reset", "press-1", "--reason", "lens cleaned")
    assert turn() == [("closed", "press-1", "critical")]


def test_labels_and_golden_parts_are_figures_of_business_rules(filled):
    record(filled, "press-1", ["scratch"] * 15 + ["good"] * 5)
    with filled.engine.connect() as tx:
        (facts,) = [facts for facts in measured_facts(tx, NOW_MS, window_days=30).values() if facts]
    found = facts["golden_failures"]
    assert (found.value, found.n, found.kind) == (0.25, 20, "golden") and found.low < 0.25 < found.high


def test_any_defect_class_finds_a_defect_and_good_parts_count_on_their_own(filled):
    with filled.engine.connect() as tx:
        models = read_models(tx)
    parts = {"bad": GoldenPart("bad", "scratch", 0.95, 0), "fine": GoldenPart("fine", "good", 0.95, 0)}
    answers = [("bad", "scratch"), ("bad", "dent"), ("bad", "good"), ("fine", "good"), ("fine", "scratch")]
    runs = [GoldenRun("press-1", k, part, filled.model, answer, 0) for k, (part, answer) in enumerate(answers)]
    (state,) = states(runs, parts, models)
    assert (state.recall.value, state.passed.value) == (pytest.approx(2 / 3), 0.5)
    assert state.outcome.runs == 5 and state.finding is None


def test_an_answer_is_taken_from_the_sample_of_that_time(filled):
    filled.samples("press-1", [BINS + 4, 4])
    run(filled, "golden", "add", "plate-1", "--label", "scratch")
    path = filled.plant.folder / "runs.csv"
    first, second = NOW_MS - MINUTE_MS + 300, NOW_MS - 2 * MINUTE_MS
    path.write_text(f"device,time,part\npress-1,{first},plate-1\npress-1,{second},plate-1\n")
    for _ in range(2):
        run(filled, "golden", "record", "--from", str(path))
    (state,) = json.loads(run(filled, "golden", "status", "--json"))
    assert state["outcome"]["runs"] == 2 and state["recall"]["value"] == 0.5


def test_wrong_rows_are_named_and_nothing_is_recorded_unless_asked(filled):
    filled.reports("press-1", 2)
    run(filled, "golden", "add", "plate-1", "--label", "scratch")
    path = filled.plant.folder / "runs.csv"
    path.write_text(
        "device,time,part,predicted\n"
        "press-1,1790000000000,plate-1,scratch\n"
        "press-1,1790000000000,plate-9,good\n"
        "Press 1,1790000000000,plate-1,good\n"
        "press-1,1790000000000,plate-1,rust\n"
        "press-1,1790000000001,plate-1,\n"
        "press-1,999999999999999,plate-1,good\n"
    )
    with pytest.raises(BadInput) as refused:
        run(filled, "golden", "record", "--from", str(path))
    said = str(refused.value)
    for part in (
        "line 3: part 'plate-9' is not known",
        "line 4:",
        "line 5: predicted 'rust'",
        "line 6: device press-1: no sample",
        "line 7: time 999999999999999 is in the future",
        "nothing was recorded",
    ):
        assert part in said, said
    run(filled, "golden", "record", "--from", str(path), "--skip-wrong")
    assert json.loads(run(filled, "golden", "status", "--json"))[0]["outcome"]["runs"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "plate-1", "--label", "rust"], "'rust' is no class"),
        (["add", "", "--label", "good"], "1 to 64 printable"),
        (["record", "plate-1"], "name a PART and its --device"),
        (["record"], "name a PART"),
        (["record", "plate-1", "--device", "press-1"], "not known; add it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(filled, arguments, said):
    with pytest.raises(BadInput, match=said):
        run(filled, "golden", *arguments)


def test_two_models_are_compared_on_the_parts_that_both_answered(filled):
    a, b = filled.model, filled.plant.model_ids[1].hex()
    runs = []
    with filled.engine.begin() as tx:
        for k in range(12):
            add_part(tx, GoldenPart(f"p{k}", "scratch", 0.9, 0), read_models(tx))
            runs.append(GoldenRun("press-1", k, f"p{k}", a, "good" if k < 8 else "scratch", 0))
            runs.append(GoldenRun("press-2", k, f"p{k}", b, "scratch", 0))
        record_runs(tx, [*runs, GoldenRun("press-2", 99, "unknown", b, "good", 0)])
        found = compare_models(tx, a, b, read_models(tx))
        with pytest.raises(NotFound, match="no golden part went through"):
            compare_models(tx, a, "beef", read_models(tx))
    assert (found.parts, found.only_a, found.only_b) == (12, 0, 8) and found.p == pytest.approx(0.0078, abs=1e-4)
    assert found.low > 0


@pytest.mark.parametrize("rate", [0, -1, 1e9])
def test_a_rate_of_false_alarms_that_is_none_is_refused(rate):
    with pytest.raises(BadInput, match="is no rate"):
        states([], {}, {}, false_alarms_a_year=rate)
    with pytest.raises(BadInput):
        GoldenTest.start(1.0)
    with pytest.raises(BadInput, match="cannot be tested"):
        GoldenTest.start(10.0).add(True, 1.0)
