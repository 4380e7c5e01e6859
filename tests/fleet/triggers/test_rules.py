"""Business rules: read from a file, refused where they rest on statistics alone, held against every model."""

from __future__ import annotations

import json

import pytest

from device_agent.contract.alert import Alert
from device_agent.contract.errors import BadInput, NotFound, UnknownSchema
from fleet.acknowledgements import judge
from fleet.alert_store import Change, write_changes
from fleet.triggers.book import open_trigger
from fleet.triggers.facts import Fact, labelled_facts, read_facts_file, share, store_facts
from fleet.triggers.rules import Rule, evaluate, evaluate_all, read_rules

DAY_MS = 86_400_000
START_MS = 1_760_000_000_000
ESCAPES = 'name = "escapes"\nwhen = "labelled_escape_rate > 0.02 with n >= 200"\n'


def write(tmp_path, text, name="rules.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def fires(when, **facts):
    found = evaluate(Rule(name="r", when=when), "0f", "steel", facts, 0)
    assert found is not None
    return found[0].fires


def test_rules_are_read_from_toml_and_json(tmp_path):
    old = 'name = "old"\nwhen = "age_of_model_days >= 180 and pages > 3"\n'
    text = f'[[rule]]\n{ESCAPES}model = "steel*"\n[[rule]]\n{old}'
    rules = read_rules(write(tmp_path, text))
    assert [rule.name for rule in rules] == ["escapes", "old"] and [len(rule.terms()) for rule in rules] == [1, 2]
    assert str(rules[0].terms()[0]) == "labelled_escape_rate > 0.02 with n >= 200"
    assert read_rules(write(tmp_path, json.dumps({"rule": [{"name": "a", "when": "age_of_model_days > 1"}]}), "r.json"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"has no table \[\[rule\]\]"),
        (
            "[[rule]]\nname='a'\nwhen='pages > 3'\n",
            "asks statistics alone, and no retraining rests on these; add one of",
        ),
        ("[[rule]]\nname='a'\nwhen='pages > 3 and warnings > 9'\n", "asks statistics alone"),
        ("[[rule]]\nname='a'\nwhen='moon_phase > 3'\n", "rule 'a': no figure 'moon_phase'; known are: labelled_escape"),
        ("[[rule]]\nname='a'\nwhen='business. > 3'\n", "must read like"),
        ("[[rule]]\nname='a'\nwhen='age_of_model_days over 3'\n", "must read like"),
        ("[[rule]]\nname='a'\nwhen='age_of_model_days > nan'\n", "must read like"),
        ("[[rule]]\nname='a'\nwhen=\"__import__('os').system('x') > 1\"\n", "must read like"),
        ("[[rule]]\nname='a'\nwhen='age_of_model_days > 3'\nevery=1\n", "unknown field `every`"),
        ("[[rule]]\nname='a'\nwhen='age_of_model_days > 3'\nwindow_days=0\n", "window_days|> 0"),
        ("[[rule]]\nname='a'\n", "missing required field `when`"),
        (f"[[rule]]\n{ESCAPES}[[rule]]\n{ESCAPES}", "rule 'escapes' stands there twice"),
        ("[[rule", "rules.toml: "),
    ],
)
def test_a_file_that_does_not_serve_is_one_line(tmp_path, text, says):
    with pytest.raises(BadInput, match=says) as caught:
        read_rules(write(tmp_path, text))
    assert "\n" not in str(caught.value) and "rules.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_no_file_is_said(tmp_path):
    with pytest.raises(NotFound, match="no such file"):
        read_rules(tmp_path / "none.toml")
    with pytest.raises(BadInput, match="cannot be read"):
        read_rules(tmp_path)


def test_a_rule_fires_on_what_is_known_and_on_enough_parts():
    rule = "labelled_escape_rate > 0.02 with n >= 200"
    assert fires(rule, labelled_escape_rate=share("labelled_escape_rate", 7, 240)) is True
    assert fires(rule, labelled_escape_rate=share("labelled_escape_rate", 4, 240)) is False
    assert fires(rule, labelled_escape_rate=share("labelled_escape_rate", 7, 199)) is None
    assert fires(rule) is None
    assert (
        fires(rule.replace("rate >", "rate.low >"), labelled_escape_rate=share("labelled_escape_rate", 7, 240)) is False
    )
    assert (
        fires(rule.replace("rate >", "rate.low >"), labelled_escape_rate=share("labelled_escape_rate", 17, 240)) is True
    )


@pytest.mark.parametrize(
    ("age", "pages", "says"), [(200, 5, True), (200, 1, False), (100, 5, False), (None, 1, False), (None, 5, None)]
)
def test_all_terms_have_to_hold_and_what_is_not_known_settles_nothing(age, pages, says):
    facts = {"pages": Fact("pages", "statistic", pages)}
    if age is not None:
        facts["age_of_model_days"] = Fact("age_of_model_days", "business", age)
    assert fires("age_of_model_days > 180 and pages > 3", **facts) is says


def test_a_rule_is_about_the_models_that_it_names():
    facts = {"age_of_model_days": Fact("age_of_model_days", "business", 9)}
    for pattern, about in (("steel*", True), ("0f", True), ("tin*", False)):
        rule = Rule(name="r", when="age_of_model_days > 1", model=pattern)
        assert (evaluate(rule, "0f", "steel int8", facts, 0) is not None) is about


def test_labelled_parts_become_figures_with_exact_intervals():
    facts = {one.figure: one for one in labelled_facts(
        [("defect", "good", False)] * 3 + [("defect", "defect", True)] * 5 + [("defect", "defect", False)] * 2
        + [("good", "defect", False)] * 1 + [("good", "good", True)] * 39)}  # fmt: skip
    assert {name: (fact.value, fact.n) for name, fact in facts.items()} == {
        "labelled_escape_rate": (0.3, 10), "labelled_overkill_rate": (0.025, 40), "labelled_accuracy": (0.88, 50),
    }  # fmt: skip
    assert facts["labelled_escape_rate"].low == pytest.approx(0.0667, abs=1e-4)
    assert labelled_facts([]) == []


def test_the_store_knows_the_age_of_a_model_and_its_pages(plant, model):
    with plant.open().begin() as tx:
        for number, (opened_days, severity, paged) in enumerate(
            [(1, "page", 5), (2, "warn", None), (30, "page", 5), (1, "info", None)]
        ):
            at_ms = START_MS + 100 * DAY_MS - opened_days * DAY_MS
            alert = Alert(id=f"a{number}", severity=severity, scope_kind="device", scope="press-1", site="hall",
                          model=model, stream="low+", opened_ms=at_ms, onset_ms=at_ms, updated_ms=at_ms, text="low",
                          paged_ms=paged and at_ms)  # fmt: skip
            write_changes(tx, [Change(alert, "opened")])
        judge(tx, "a0", real=True, who="ann", note="", now_ms=1)
        facts = store_facts(tx, START_MS + 100 * DAY_MS, window_days=7)[model]
    values = {name: fact.value for name, fact in facts.items()}
    assert values == {"pages": 1, "warnings": 2, "true_pages": 1, "age_of_model_days": 100}


def test_a_rule_that_fires_every_hour_asks_once_a_window(plant, model):
    rule, now_ms = Rule(name="old", when="age_of_model_days > 90", model=model), START_MS + 100 * DAY_MS
    ids = set()
    with plant.open().begin() as tx:
        for hour in range(0, 24 * 21, 5):
            ((_, draft),) = evaluate_all(tx, [rule], {}, now_ms + hour * 3_600_000)
            opened = open_trigger(tx, draft, who="cron", now_ms=now_ms)
            ids.add(opened.trigger.id)
            assert opened.new is (hour == 0)
    assert len(ids) == 1 and opened.trigger.rule == "old" and opened.trigger.evidence[0].kind == "business"


def test_figures_of_a_file_stand_above_those_of_the_store(plant, model, tmp_path):
    path = tmp_path / "facts.json"
    figures = [{"figure": "labelled_escape_rate", "events": 9, "n": 240}, {"figure": "business.complaints", "value": 3}]
    path.write_text(json.dumps({"schema": "1.0", "models": {model: figures}}))
    rule = Rule(name="r", when="labelled_escape_rate > 0.02 with n >= 200 and business.complaints >= 3")
    with plant.open().begin() as tx:
        found = [outcome.fires for outcome, _ in evaluate_all(tx, [rule], read_facts_file(path), START_MS)]
        assert sorted(found, key=str) == [None, None, True]
        with pytest.raises(NotFound, match="facts: no model 'other'"):
            evaluate_all(tx, [rule], {"other": {}}, START_MS)


@pytest.mark.parametrize(
    ("figure", "says"),
    [
        ({"figure": "labelled_escape_rate", "value": 0.2}, "is a share; give events and n"),
        ({"figure": "labelled_escape_rate", "events": 3, "n": 2}, "must be a count out of"),
        ({"figure": "labelled_escape_rate", "events": 3}, "must be a count out of"),
        ({"figure": "moon", "value": 1}, "no figure 'moon'"),
        ({"figure": "business.x"}, "give a finite value"),
        ({"figure": "business.x", "value": 1, "events": 1, "n": 1}, "give a finite value"),
        ({"figure": "business.x", "value": "1"}, "expected"),
    ],
)
def test_a_figure_that_is_none_is_refused(tmp_path, figure, says):
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"schema": "1.0", "models": {"0f": [figure]}}))
    with pytest.raises(BadInput, match=says):
        read_facts_file(path)


def test_a_file_of_figures_of_another_major_is_refused(tmp_path):
    path = tmp_path / "facts.json"
    path.write_text('{"schema": "2.0", "models": {}}')
    with pytest.raises(UnknownSchema, match=r"schema 2\.0"):
        read_facts_file(path)
    with pytest.raises(NotFound):
        read_facts_file(tmp_path / "none.json")
