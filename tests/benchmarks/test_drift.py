"""The public drift benchmark: how it counts, and that what is committed agrees."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fleet.diagnostics.rates import FALSE_ALARMS_A_MONTH, MEASURED_ON

FOLDER = Path(__file__).parents[2] / "benchmarks" / "drift"
MODULES = ("feed", "draw", "public", "run")


@pytest.fixture
def drift(monkeypatch):
    """Modules of the benchmark by name; they find their neighbours beside them."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER / "libraries"), *sys.path])
    hidden = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(hidden)


def case(feed, *, minutes=2880, onset=10**9, devices=2):
    none = np.zeros((devices, minutes), np.int32)
    counts = np.zeros((devices, minutes, 48), np.uint16)
    return feed.Case("none", counts[:, :60], none[:, :60], counts, none, none, np.full(devices, onset))


def noted(feed, of, up):
    notes = feed.Notes(of)
    for minute in range(up.shape[1]):
        notes.note(up[:, minute], minute)
    return notes.result()


def test_an_alarm_that_flickers_is_counted_once_and_one_that_comes_back_after_six_hours_twice(drift):
    feed = drift("feed")
    up = np.zeros((2, 2880), bool)
    up[0, 100:700:7] = True
    up[1, [100, 461]] = True
    found = noted(feed, case(feed), up)
    assert found["false"] == 3
    assert found["standing_minutes"] == (695 + 360 - 100) + 2 * 360


def test_a_method_that_is_always_up_is_quick_on_healthy_lines_too_and_struck_out(drift):
    feed, public = drift("feed"), drift("public")
    up = np.ones((2, 2880), bool)
    quiet, sick = noted(feed, case(feed), up), noted(feed, case(feed, onset=200), up)
    assert (quiet["false"], quiet["standing_minutes"], quiet["healthy_minutes"]) == (2, 5760, 5760)
    assert set(quiet["waits"]) == {1} and sick["delays"] == [1, 1]
    assert public.cell(sick["delays"], quiet["waits"], 2).startswith("~~1 (1 to 1), 100 %~~ healthy too: 100 %")


def test_a_method_that_waits_for_the_fault_is_not_struck_out(drift):
    feed, public = drift("feed"), drift("public")
    up = np.zeros((2, 2880), bool)
    quiet = noted(feed, case(feed), up)
    up[:, 229:] = True
    sick = noted(feed, case(feed, onset=200), up)
    assert (quiet["false"], sick["false"], sick["healthy_minutes"]) == (0, 0, 400)
    assert public.cell(sick["delays"], quiet["waits"], 2) == "30 (30 to 30), 100 %"


def test_waits_are_the_minutes_to_the_next_time_that_a_method_is_up(drift):
    feed = drift("feed")
    up = np.zeros((1, 2880), bool)
    up[0, 720] = True
    waits = noted(feed, case(feed, devices=1), up)["waits"]
    starts = np.arange(0, 1440, feed.STEP)
    assert waits.count(None) / len(waits) == pytest.approx((starts > 720).mean(), abs=0.02)
    assert waits[0] == 721 - starts[starts <= 720].max()


def test_hours_are_known_at_their_end(drift):
    feed = drift("feed")
    of = case(feed, onset=61)
    result = feed.Notes(of).of_blocks(np.arange(48)[None].repeat(2, 0) >= 1).result()
    assert result["delays"] == [59, 59] and result["false"] == 0


def test_what_other_code_or_another_seed_has_found_is_not_kept(drift, tmp_path, monkeypatch):
    feed, run = drift("feed"), drift("run")
    data, out = tmp_path / "data", tmp_path / "quick" / "mine.json"
    data.mkdir(), out.parent.mkdir()
    none = case(feed)
    for name in feed.Case._fields[1:]:
        np.save(data / f"none.{name}.npy", getattr(none, name))
    calls = []

    def method(of):
        calls.append(of.name)
        return feed.Notes(of).of_blocks(np.zeros((2, 48), bool))

    monkeypatch.setattr(sys, "argv", [__file__, str(data), str(out)])
    for seed, expected in ((1, 1), (1, 1), (2, 2)):
        (data / "made.json").write_text(json.dumps({"seed": seed, "plan": {"none": [1, 2]}, "code": "x"}))
        feed.run("mine", {"numpy": "2"}, {"quiet": method})
        assert len(calls) == expected
    made = {"seed": 2, "plan": {"none": [1, 2]}, "code": "x"}
    assert [one["library"] for one in run.results_of(tmp_path, "quick", made)] == ["mine"]
    assert run.results_of(tmp_path, "quick", made | {"seed": 3}) == []
    assert run.results_of(tmp_path, "quick", made | {"plan": {"none": [1, 2], "bulk": [1, 2]}})[:1] == []


def test_who_is_sooner_than_our_page_is_said_with_what_it_costs(drift):
    public = drift("public")

    def results(delay, false, waits):
        quiet = {"false": false, "healthy_minutes": 43200, "waits": waits}
        return {"none": quiet, "bulk": {"delays": [delay] * 9}}

    ours = {"library": "lineside", "results": {"detector, page": results(20, 0, [None])}}
    theirs = {"quick": results(5, 2, [None]), "slow": results(30, 0, [None]), "always": results(1, 1, [1])}
    (line,) = public.sooner([ours, {"library": "x", "results": theirs}], {"bulk": (1, 2)}, ["bulk"])
    assert line == "- bulk (ours 20): x: quick 5, 2 false alarms"


def test_the_rates_that_the_product_states_are_those_of_the_committed_table(drift):
    months = {m for _, m, _ in FALSE_ALARMS_A_MONTH.values()}
    text = (FOLDER / "public.md").read_text()
    mode, seed = MEASURED_ON.removeprefix("benchmarks/drift/run.py ").split(", seed ")
    assert f"`python benchmarks/drift/run.py {mode} --seed {seed}`" in text and len(months) == 1
    for name, (alarms, months, upper) in FALSE_ALARMS_A_MONTH.items():
        assert f"lineside: {name} on independent counts | {alarms / months:.3g} ({upper:.3g}) |" in text


def test_rates_are_written_as_source_that_can_be_read(drift):
    run = drift("run")
    results = {"kl on independent counts": {"none": {"healthy_minutes": 86400, "false": 3}}, "detector, page": {}}
    found = {}
    exec(run.rates(results, "quick", 7), found)
    assert found["FALSE_ALARMS_A_MONTH"] == {"kl": (3, 2.0, 3.88)}
    assert found["MEASURED_ON"] == "benchmarks/drift/run.py --quick, seed 7"
