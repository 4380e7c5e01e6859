"""Labels: imported once however often, kept from everybody, refused by line, and weighed by strata."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.histogram import BINS
from fleet.accuracy.calibration import calibration
from fleet.accuracy.drawing import allocate, uncertainty
from fleet.accuracy.label_requests import APART_MS, draw_request, keep_request, read_requests
from fleet.accuracy.labelled import estimate_labelled, tally
from fleet.accuracy.labels import Truth, adjudicate, read_labels
from fleet.accuracy.slices import Part, compare_slices, shift_of
from fleet.accuracy.validation import Validation
from fleet.cli import cli
from fleet.models import read_models
from fleet.schema import LABEL_REQUEST
from tests.fleet.accuracy.conftest import MINUTE_MS, NOW_MS


def run(filled, *arguments: str) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--store", filled.plant.url], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout


def write(filled, text: str, name: str = "labels.csv") -> str:
    path = filled.plant.folder / name
    path.write_text(text)
    return str(path)


def truths(filled, **options) -> list[Truth]:
    with filled.engine.connect() as tx:
        return adjudicate(read_labels(tx), **options)


def test_labels_by_digest_and_by_time_are_imported_once(filled):
    names = filled.samples("press-1", [4, BINS + 5, 10])
    at = NOW_MS - 3 * MINUTE_MS + 400
    path = write(
        filled, f"sample,device,time,label\n{names[0]},,,scratch\n{names[1][:10]},,,scratch\n,press-1,{at},good\n"
    )
    first = json.loads(run(filled, "labels", "import", path, "--annotator", "ann", "--json"))
    again = json.loads(run(filled, "labels", "import", path, "--annotator", "ann", "--json"))
    assert (first["new"], first["known"]) == (3, 0) and (again["new"], again["changed"], again["known"]) == (0, 0, 3)
    assert {(one.item, one.label, one.predicted, one.cell) for one in truths(filled)} == {
        (names[0], "scratch", 0, 4), (names[1], "scratch", 1, BINS + 5), (names[2], "good", 0, 10),
    }  # fmt: skip


def test_two_people_may_disagree_until_a_third_or_the_adjudicator_speaks(filled):
    (name,) = filled.samples("press-1", [4])
    for who, word in (("ann", "good"), ("bob", "scratch")):
        run(filled, "labels", "import", write(filled, f"sample,label\n{name},{word}\n"), "--annotator", who)
    assert [one.label for one in truths(filled)] == [""]
    assert name[:44] in run(filled, "labels", "list", "--disputed")
    assert [one.label for one in truths(filled, adjudicator="bob")] == ["scratch"]
    run(filled, "labels", "import", write(filled, f"sample,label,annotator\n{name},good,eve\n"))
    assert [(one.label, one.told) for one in truths(filled)] == [("good", 2)]


def test_of_one_persons_words_the_latest_stands_in_whatever_order_they_come(filled):
    (name,) = filled.samples("press-1", [4])
    later = f"sample,label,labelled\n{name},good,2026-03-02T10:00:00Z\n"
    earlier = f"sample,label,labelled\n{name},scratch,2026-03-01T10:00:00Z\n"
    for text in (later, earlier):
        run(filled, "labels", "import", write(filled, text), "--annotator", "ann")
    assert [one.label for one in truths(filled)] == ["good"]


def test_wrong_lines_are_named_and_nothing_is_imported_unless_asked(filled):
    names = filled.samples("press-1", [4, 5])
    rows = [f"{names[0]},,,good", f"{'0' * 64},,,good", f"{names[1]},,,rust", ",press-1,yesterday,good", ",,,good"]
    path = write(filled, "\n".join(["sample,device,time,label", *rows]) + "\n")
    with pytest.raises(BadInput) as refused:
        run(filled, "labels", "import", path)
    said = str(refused.value)
    for part in (
        "line 3: sample 0000000000000000: not in the store",
        "line 4: label 'rust' is no class",
        "line 5: time",
        "line 6: names neither",
        "nothing was imported",
    ):
        assert part in said, said
    assert truths(filled) == [] and "line 2" not in said and "\n" not in said
    run(filled, "labels", "import", path, "--skip-wrong")
    assert [one.item for one in truths(filled)] == [names[0]]


def test_a_part_without_a_sample_needs_the_models_answer(filled):
    with pytest.raises(BadInput, match="no sample at that time; say predicted and model"):
        run(filled, "labels", "import", write(filled, "device,time,label\npress-1,1790000000000,good\n"))
    text = f"device,time,label,predicted,model\npress-1,1790000000000,scratch,good,{filled.model}\n"
    run(filled, "labels", "import", write(filled, text))
    (one,) = truths(filled)
    assert (one.cell, one.predicted, one.label) == (None, 0, "scratch")


def test_two_samples_that_are_equally_near_are_not_guessed_between(filled):
    filled.samples("press-1", [4, 5])
    middle = NOW_MS - 3 * MINUTE_MS // 2
    with pytest.raises(BadInput, match="two samples are equally near"):
        run(
            filled,
            "labels",
            "import",
            write(filled, f"device,time,label\npress-1,{middle},good\n"),
            "--within-ms",
            "60000",
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample\nx\n", "missing columns: label"),
        ("sample,label,colour\nx,y,z\n", "unknown column 'colour'"),
        ("sample,label\nx,y,z\n", "line 2: has more columns"),
        ("", "missing columns"),
    ],
)
def test_a_file_of_other_columns_is_refused(filled, text, said):
    with pytest.raises(BadInput, match=said):
        run(filled, "labels", "import", write(filled, text))


def test_a_file_that_is_none_is_refused(filled, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00sample")
    with pytest.raises(BadInput, match="not a CSV text"):
        run(filled, "labels", "import", str(tmp_path / "binary"))
    with pytest.raises(NotFound, match="no such file"):
        run(filled, "labels", "import", str(tmp_path / "absent"))


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    budget=st.integers(1, 500),
    data=st.data(),
)
def test_an_allocation_spends_what_it_can_and_never_more_than_is_there(weights, budget, data):
    size = len(weights)
    spread = data.draw(st.lists(st.floats(0.01, 0.5), min_size=size, max_size=size))
    there = np.array(data.draw(st.lists(st.integers(0, 200), min_size=size, max_size=size)))
    found = allocate(np.array(weights), np.array(spread), there, budget)
    useful = there[np.array(weights) * np.array(spread) > 0].sum()
    assert (found >= 0).all() and (found <= there).all() and found.sum() == min(budget, useful)


def test_a_request_draws_doubtful_bands_more_often_than_they_occur(filled, validation):
    filled.samples("press-1", [16] * 300 + [4] * 60 + [BINS + 4] * 60 + [BINS + 16] * 60)
    seen = np.zeros((2, BINS), int)
    seen[0, [4, 16]], seen[1, [4, 16]] = (100, 9_700), (100, 100)
    with filled.engine.begin() as tx:
        request = draw_request(tx, validation, filled.model, seen, np.random.default_rng(0), budget=100)
        keep_request(tx, request, NOW_MS)
        keep_request(tx, request, NOW_MS + 1)
        rows = tx.execute(select(LABEL_REQUEST)).all()
    drawn = {(one.predicted, one.log_odds): one.drawn / 100 for one in request.strata}
    assert drawn["good", "under 1"] > 5 * 0.01 and drawn["good", "over 6.5"] < 0.97
    assert len(request.samples) == len(rows) == 100 == len({one.sample for one in request.samples})
    for one in request.samples:
        stratum = request.strata[one.stratum]
        assert one.probability == pytest.approx(stratum.drawn / stratum.available)
        assert one.weight == pytest.approx(stratum.weight / stratum.drawn)
    assert sum(one.weight for one in request.samples) == pytest.approx(1 - request.unreachable)
    with filled.engine.connect() as tx:
        assert [(one.samples, one.labelled) for one in read_requests(tx)] == [(100, 0)]


def test_labelled_samples_and_views_of_one_part_are_not_asked_for(filled, validation):
    names = filled.samples("press-1", [4] * 6)
    run(filled, "labels", "import", write(filled, f"sample,label\n{names[0]},good\n"))
    filled.samples("press-2", [4], now_ms=NOW_MS)
    filled.samples("press-2", [4], now_ms=NOW_MS + APART_MS // 2, reason="review")
    seen = np.full((2, BINS), 10)
    with filled.engine.begin() as tx:
        request = draw_request(tx, validation, filled.model, seen, np.random.default_rng(0), budget=50)
    assert len(request.samples) == 5 + 1 and names[0] not in {one.sample for one in request.samples}


def test_a_filled_request_can_be_imported(filled):
    filled.reports("press-1", now_ms=now_ms())
    filled.samples("press-1", [4] * 20, now_ms=now_ms())
    out = filled.plant.folder / "ask.csv"
    run(filled, "labels", "request", "--budget", "5", "--out", str(out))
    head, *rows = out.read_text().splitlines()
    assert head == "sample,device,time,label,probability,weight" and len(rows) == 5
    answered = [",".join([*row.split(",")[:3], "good", *row.split(",")[4:]]) for row in rows]
    run(filled, "labels", "import", write(filled, "\n".join([head, *answered]) + "\n"))
    assert json.loads(run(filled, "labels", "requests", "--json"))[0]["labelled"] == 5


def now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


def test_without_samples_or_a_model_a_request_says_what_is_missing(filled):
    with pytest.raises(BadInput, match="no device runs an imported one"):
        run(filled, "labels", "request")
    with pytest.raises(NotFound, match="no imported model 'beef'"):
        run(filled, "labels", "request", "--model", "beef")
    filled.reports("press-1", now_ms=now_ms())
    with pytest.raises(NotFound, match="no sample is left"):
        run(filled, "labels", "request")


def drawn_labels(bands, truth: np.ndarray, number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels (classes, strata) of so many parts of each stratum, whose truth (classes, strata) is known."""
    share = truth / np.maximum(truth.sum(axis=0), 1e-300)
    return np.column_stack(
        [rng.multinomial(n, share[:, k]) if truth[:, k].sum() else share[:, k] for k, n in enumerate(number)]
    )


def test_stratified_figures_are_right_where_a_plain_share_of_the_labels_is_far_off(validation):
    rng, bands = np.random.default_rng(1), validation.bands()
    truth = validation.prevalence[:, None] * bands.counts / bands.counts.sum(axis=1, keepdims=True)
    weight = truth.sum(axis=0)
    number = np.where(weight > 0, 120, 0)
    found = estimate_labelled(bands, weight, drawn_labels(bands, truth, number, rng), rng)
    true_recall = truth[1, bands.predicted == 1].sum() / truth[1].sum()
    plain = drawn_labels(bands, truth, number, rng)
    assert abs(plain[1, bands.predicted == 1].sum() / plain[1].sum() - true_recall) > 0.06
    assert abs(found.recall.value - true_recall) < 0.05
    assert found.recall.low <= true_recall <= found.recall.high
    assert found.escape.value == pytest.approx(1 - found.recall.value) and found.looked_at == pytest.approx(1)


def test_limits_hold_a_recall_that_fell_since_validation(validation):
    rng, bands, held = np.random.default_rng(2), validation.bands(), []
    truth = validation.prevalence[:, None] * bands.counts / bands.counts.sum(axis=1, keepdims=True)
    moved = 0.6 * truth[1] * (bands.predicted == 1)
    truth[1] -= moved
    truth[1, (bands.predicted == 0) & (bands.level == bands.level.max())] += moved.sum()
    weight = truth.sum(axis=0)
    true_recall = truth[1, bands.predicted == 1].sum() / truth[1].sum()
    for _ in range(60):
        number = allocate(weight, uncertainty(bands, weight, "recall"), np.full(len(weight), 10**6), 200)
        found = estimate_labelled(bands, weight, drawn_labels(bands, truth, number, rng), rng).recall
        held.append(found.low <= true_recall <= found.high)
    assert np.mean(held) >= 0.9


def test_no_defect_among_few_labels_is_not_taken_as_none(validation):
    bands = validation.bands()
    labels = np.zeros_like(bands.counts)
    sure = np.flatnonzero((bands.predicted == 0) & (bands.level == bands.level.max()))[0]
    labels[0, sure] = 30
    labels[1, (bands.predicted == 1) & (bands.level == 0)] = 5
    weight = validation.prevalence @ (bands.counts / bands.counts.sum(axis=1, keepdims=True))
    found = estimate_labelled(bands, weight, labels, np.random.default_rng(3))
    assert found.recall.low < 0.35 and found.looked_at < 1


def test_labels_of_another_model_and_none_at_all_are_refused(validation):
    bands = validation.bands()
    with pytest.raises(BadInput, match="not of this model"):
        tally(bands, [Truth("a", "d", "m", 0, 0, 4, "rust", 1)])
    with pytest.raises(BadInput, match="without a label"):
        estimate_labelled(bands, np.ones(len(bands.predicted)), np.zeros_like(bands.counts), np.random.default_rng(0))
    kept = tally(bands, [Truth("a", "d", "m", 0, 0, 4, "", 0), Truth("b", "d", "m", 0, 0, None, "good", 1)])
    assert kept[0].sum() == 0 and kept[1:] == (1, 1)


def test_calibration_is_said_to_have_changed_when_it_did_and_seldom_otherwise(validation):
    rng, bands = np.random.default_rng(4), validation.bands()
    truth = validation.prevalence[:, None] * bands.counts / bands.counts.sum(axis=1, keepdims=True)
    cells = validation.line_shares() * 1e5
    number = np.where(truth.sum(axis=0) > 0, 30, 0)
    p = [calibration(bands, cells, drawn_labels(bands, truth, number, rng), rng).p for _ in range(40)]
    assert np.mean([value < 0.05 for value in p]) <= 0.15 and np.std(p) > 0.1
    wrong = truth.copy()
    wrong[1, bands.predicted == 0] += 0.3 * truth[0, bands.predicted == 0]
    found = calibration(bands, cells, drawn_labels(bands, wrong, number, rng), rng)
    assert found.verdict == "changed" and found.ece.low > found.chance
    assert calibration(bands, cells, np.zeros_like(bands.counts), rng) is None


def parts(rng: np.random.Generator, *, worse: str = "", small: int = 8) -> list[Part]:
    found = []
    for site, number in (("hall", 200), ("yard", 200), ("attic", small)):
        for _ in range(number):
            stratum = int(rng.integers(0, 2))
            rate = 0.05 + 0.25 * stratum + (0.3 if site == worse else 0)
            found.append(Part({"site": site, "line": "a"}, stratum, bool(rng.random() < rate)))
    return found


def test_a_slice_that_is_worse_is_found_and_a_small_one_is_left_in_peace():
    found = {
        (one.by, one.name): one.verdict
        for one in compare_slices(parts(np.random.default_rng(5), worse="yard"), np.random.default_rng(0))
    }
    assert found["site", "yard"] == "worse" and found["site", "attic"] == found["line", "a"] == "too few"


def test_equal_slices_are_seldom_called_different_however_many_there_are():
    rng, wrongly = np.random.default_rng(6), 0
    for _ in range(25):
        found = compare_slices(
            [
                Part({f"k{k}": str(rng.integers(0, 3)) for k in range(4)}, 0, bool(rng.random() < 0.2))
                for _ in range(200)
            ],
            rng,
        )
        wrongly += any(one.verdict in ("worse", "better") for one in found)
    assert wrongly <= 4


def test_a_slice_of_harder_parts_is_not_called_worse():
    rng = np.random.default_rng(7)
    hard = [Part({"site": "hard"}, 1, bool(rng.random() < 0.3)) for _ in range(200)]
    easy = [Part({"site": "easy"}, 0, bool(rng.random() < 0.02)) for _ in range(200)]
    mixed = [
        Part({"site": site}, s, bool(rng.random() < (0.02, 0.3)[s]))
        for site in ("hard", "easy")
        for s in (0, 1)
        for _ in range(20)
    ]
    found = {one.name: one for one in compare_slices(hard + easy + mixed, rng)}
    assert found["hard"].wrong.low > found["easy"].wrong.high
    assert {one.verdict for one in found.values()} == {"no difference shown"}


@pytest.mark.parametrize("starts", [["6:00"], ["06:00", "x"], [], ["25:00"]])
def test_shifts_that_are_none_are_refused(starts):
    with pytest.raises(BadInput, match="must read like"):
        shift_of(0, starts)


def test_a_validation_of_the_stores_model_is_read(filled):
    with filled.engine.connect() as tx:
        model = read_models(tx)[filled.model]
    assert Validation.of(model.labels, model.baseline).names == ("good", "scratch")
