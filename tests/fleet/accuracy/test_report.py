"""The report and the card: what is known, what is not, from a store."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, update

from device_agent.contract.errors import NotFound
from device_agent.contract.histogram import BINS
from fleet.accuracy.account import Scope
from fleet.accuracy.card import card
from fleet.accuracy.drawings import over_time, reliability
from fleet.accuracy.golden import GoldenPart, GoldenRun, add_part, record_runs
from fleet.accuracy.labels import Label, write_labels
from fleet.accuracy.observed import DAY_MS
from fleet.accuracy.page import render_page
from fleet.accuracy.report import read_accuracy
from fleet.cli import cli
from fleet.models import read_models
from fleet.schema import DEVICE, MODEL
from fleet.web.accuracy import read_card, say_card
from tests.fleet.accuracy.conftest import NOW_MS


def read(filled, **scope):
    with filled.engine.connect() as tx:
        return read_accuracy(
            tx, Scope(**scope), since_ms=NOW_MS - 7 * DAY_MS, until_ms=NOW_MS, rng=np.random.default_rng(0)
        )


def label(filled, device: str, cells: list[int], words: list[str]) -> None:
    found = [
        Label(f"{device}@{k}", "ann", word, NOW_MS, device, filled.model, NOW_MS - 60_000 - k, cell // BINS, cell)
        for k, (cell, word) in enumerate(zip(cells, words, strict=True))
    ]
    with filled.engine.begin() as tx:
        write_labels(tx, found)


def test_counts_are_estimated_by_day_and_device_and_say_that_they_were_predicted(filled):
    filled.reports("press-1", now_ms=NOW_MS)
    filled.reports("press-1", 21, now_ms=NOW_MS - 2 * DAY_MS)
    filled.reports("press-22", now_ms=NOW_MS)
    (model,) = read(filled).models
    assert (model.devices, len(model.days), len(model.ranking)) == (2, 2, 2)
    assert model.unlabelled.frames == sum(day.frames for day in model.days) == 61 * 200
    assert model.unlabelled.independent < model.unlabelled.frames and model.unlabelled.provenance == "predicted"
    assert any("no labels" in why for why in model.unknown)
    (one,) = read(filled, device="press-22").models
    assert one.devices == 1 and read(filled, site="hall").models[0].devices == 2


def test_dirt_is_ranked_first_and_not_identified(filled):
    filled.reports("press-1", 40)
    filled.reports("press-22", 40, look="dirty")
    (model,) = read(filled).models
    assert [one.device for one in model.ranking] == ["press-22", "press-1"]
    assert model.ranking[0].accuracy.badge == "not identified" and model.ranking[0].strange > model.ranking[1].strange


def test_labels_that_show_a_fall_are_a_finding_and_those_that_do_not_are_none(filled):
    filled.reports("press-1", 40)
    cells = [14] * 60 + [4] * 30 + [BINS + 16] * 60
    label(filled, "press-1", cells, ["good"] * 90 + ["scratch"] * 60)
    fine = read(filled)
    assert fine.findings == [] and fine.models[0].labelled.labels == 150
    label(filled, "press-1", cells, ["scratch"] * 30 + ["good"] * 60 + ["scratch"] * 60)
    found = {one.figure: one for one in read(filled).findings}
    assert found["recall"].severity == "page" and found["recall"].reason == "labels"
    assert found["recall"].high < found["recall"].claim and "in validation; measured" in found["recall"].text
    assert "ece" in found and not found["ece"].may_trigger


def test_what_is_not_known_is_said(filled):
    filled.reports("press-1")
    with filled.engine.begin() as tx:
        add_part(tx, GoldenPart("p", "scratch", 0.95, 0), read_models(tx))
        record_runs(tx, [GoldenRun("press-1", NOW_MS - 10 * DAY_MS, "p", filled.model, "scratch", 0)])
    assert "1 of 1 devices saw no golden part in three days" in read(filled).unknown[0]
    with filled.engine.begin() as tx:
        record_runs(tx, [GoldenRun("press-1", NOW_MS - DAY_MS, "p", filled.model, "scratch", 0)])
    assert read(filled).unknown == []
    with filled.engine.begin() as tx:
        tx.execute(update(MODEL).where(MODEL.c.model == filled.model).values(baseline=None))
    (model,) = read(filled).models
    assert "never imported" in model.unknown[0] and model.unlabelled is None


def test_an_unknown_device_site_or_model_is_refused(filled):
    filled.reports("press-1")
    for scope in ({"device": "press-9"}, {"site": "moon"}, {"model": "beef"}):
        with pytest.raises(NotFound):
            read(filled, **scope)


def test_an_empty_store_has_an_empty_report(filled):
    found = read(filled)
    assert found.models == [] and found.findings == [] and "No model was heard of" in render_page(found)


def test_slices_come_from_where_devices_stand_and_when_parts_were_seen(filled):
    filled.reports("press-1", 40)
    label(filled, "press-1", [14] * 40, ["good"] * 40)
    (model,) = read(filled).models
    assert {(one.by, one.name) for one in model.slices} == {
        ("device type", "pi-4"), ("site", "hall"), ("line", "a"), ("product", "plate"), ("shift", "14:00"),
    }  # fmt: skip


def test_the_page_is_well_formed_and_names_cannot_break_out_of_it(filled):
    filled.reports("press-1", 40, now_ms=NOW_MS)
    filled.reports("press-1", 41, now_ms=NOW_MS - DAY_MS)
    label(filled, "press-1", [14] * 40 + [BINS + 16] * 20, ["good"] * 40 + ["scratch"] * 20)
    with filled.engine.begin() as tx:
        tx.execute(update(DEVICE).values(site="<script>alert(1)</script>"))
        tx.execute(update(MODEL).values(name="</title><img src=x>"))
    found = read(filled)
    page = render_page(found)
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    for drawing in (over_time(found.models[0].days, "accuracy"), reliability(found.models[0].calibration.bands)):
        assert drawing in page and ElementTree.fromstring(drawing).tag == "svg"


def test_the_command_prints_and_writes_the_same_report(filled, tmp_path):
    filled.reports("press-1", 40, now_ms=_now_ms())
    out = tmp_path / "accuracy.html"
    done = CliRunner().invoke(cli, ["accuracy", "--store", filled.plant.url, "--out", str(out), "--json"])
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and report["models"][0]["unlabelled"]["frames"] == 8_000
    assert "Accuracy of the fleet" in out.read_text()
    text = CliRunner().invoke(cli, ["accuracy", "--store", filled.plant.url]).stdout
    assert "from counts: " in text and "not known: no labels" in text and "predicted" in text


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


def test_a_card_holds_the_last_day_labels_and_golden_parts(filled):
    filled.reports("press-1", 40)
    filled.reports("press-22", 40)
    label(filled, "press-1", [14] * 40, ["good"] * 40)
    with filled.engine.begin() as tx:
        add_part(tx, GoldenPart("p", "scratch", 0.95, 0), read_models(tx))
        record_runs(tx, [GoldenRun("press-1", NOW_MS - 1000, "p", filled.model, "scratch", 0)])
    with filled.engine.connect() as tx:
        one, both = card(tx, device="press-1", now_ms=NOW_MS), card(tx, site="hall", now_ms=NOW_MS)
        assert (one.frames, both.frames) == (8_000, 16_000) and one.labelled.labels == 40
        assert one.accuracy.figure == "accuracy" and one.recall.of == "defect" and len(one.golden) == 1
        late = card(tx, device="press-1", now_ms=NOW_MS + 3 * DAY_MS)
        assert late.accuracy is None and late.unknown[0] == "no report in the last day"
        with pytest.raises(NotFound):
            card(tx, device="press-9", now_ms=NOW_MS)


def test_the_card_of_the_page_says_what_was_predicted_and_what_measured(filled):
    now_ms = _now_ms()
    filled.reports("press-1", 40, now_ms=now_ms)
    with filled.engine.begin() as tx:
        add_part(tx, GoldenPart("p", "scratch", 0.95, 0), read_models(tx))
        record_runs(tx, [GoldenRun("press-1", now_ms - k, "p", filled.model, "good", 0) for k in range(6)])
    lines = say_card(read_card(filled.engine, "press-1"))
    assert len(lines) == 3 and "predicted from counts" in lines[0] and "needs labels" in lines[1]
    assert "Golden parts: FELL" in lines[2] and "measured in 6 runs" in lines[2]
    assert read_card(filled.engine, "press-9") is None


def test_a_store_without_the_tables_has_a_page_without_the_card(tmp_path):
    assert read_card(create_engine(f"sqlite:///{tmp_path / 'empty.db'}"), "press-1") is None
