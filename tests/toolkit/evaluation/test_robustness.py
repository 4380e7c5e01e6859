"""Corrupted pictures through the device's own code: worse answers, kept answers, refused kinds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from device_agent.contract.errors import BadInput
from toolkit.cli import cli
from toolkit.evaluation import robustness
from toolkit.evaluation.answers import answers_of
from toolkit.evaluation.robustness import mean_interval, measure_robustness
from toolkit.evaluation.uncertainty import gain_draws, measure_uncertainty, mutual_information

NAME = "onnx-int8"
KINDS = ("overexposure", "jpeg")


@pytest.fixture
def measured(tiny_run):
    return measure_robustness(tiny_run, NAME, kinds=KINDS, severities=(1, 5))


def test_light_hurts_a_model_that_reads_brightness_and_compression_does_not(measured):
    by_kind = {one.kind: one for one in measured.by_kind}
    assert by_kind["overexposure"].error > measured.clean.error + 0.2
    assert by_kind["jpeg"].error == pytest.approx(measured.clean.error, abs=0.05)
    worse = {(one.kind, one.severity): one.macro_f1 for one in measured.conditions}
    assert worse["overexposure", 5] < worse["overexposure", 1] < measured.clean.macro_f1


def test_the_means_are_those_of_the_conditions(measured):
    errors = [one.error for one in measured.conditions]
    assert measured.mean_error == pytest.approx(np.mean(errors))
    assert measured.relative == pytest.approx(np.mean(errors) / measured.clean.error)
    assert measured.added_error == pytest.approx(np.mean(errors) - measured.clean.error)
    low, high = measured.mean_error_interval
    assert low < measured.mean_error < high


def test_answers_that_were_given_are_not_asked_for_again(tiny_run, measured, monkeypatch):
    monkeypatch.setattr(robustness, "_ask", lambda *_: pytest.fail("asked again"))
    assert measure_robustness(tiny_run, NAME, kinds=KINDS, severities=(1, 5)) == measured


def test_a_damaged_cache_and_another_seed_are_measured_anew(tiny_run, measured):
    (tiny_run.dir / "robustness" / "answers" / NAME / "jpeg-5.npz").write_bytes(b"PK")
    assert measure_robustness(tiny_run, NAME, kinds=KINDS, severities=(1, 5)) == measured
    other = measure_robustness(tiny_run, NAME, kinds=("gaussian-noise",), severities=(5,), seed=1)
    assert other.seed == 1 and len(other.conditions) == 1


@pytest.mark.parametrize(
    ("kinds", "severities", "saying"),
    [(("rain",), (1,), "no corruption"), (("jpeg",), (6,), "1 to 5"), ((), (1,), "no kind")],
)
def test_what_does_not_exist_is_refused_before_anything_is_measured(tiny_run, kinds, severities, saying):
    with pytest.raises(BadInput, match=saying):
        measure_robustness(tiny_run, NAME, kinds=kinds, severities=severities)
    assert not (tiny_run.dir / "robustness").exists()


def test_groups_that_agree_widen_the_interval_of_a_mean():
    values = (np.arange(100) < 30).astype(float)
    widths = [
        np.diff(mean_interval(values, groups, rng=np.random.default_rng(0)))[0]
        for groups in (np.arange(100), np.arange(100) // 10)
    ]
    assert widths[1] > 1.5 * widths[0]


def test_an_ensemble_is_judged_by_what_it_adds_to_plain_confidence(tiny_run):
    found = measure_uncertainty(tiny_run, NAME, others=[tiny_run])
    names = [one.name for one in found.doubts]
    assert names == ["confidence", "entropy", "ensemble of 2", "ensemble of 2, disagreement"]
    plain, _, same, disagreement = found.doubts
    assert same.gain == pytest.approx(0) and same.curve.aurc == pytest.approx(plain.curve.aurc)
    assert disagreement.curve.auroc == pytest.approx(0.5), "two equal members never disagree"
    assert 0.5 < plain.curve.auroc <= 1


def test_a_run_with_other_classes_is_no_member(tiny_run):
    record = msgspec.structs.replace(tiny_run.record, labels=tiny_run.labels[::-1])
    with pytest.raises(BadInput, match="has other classes"):
        measure_uncertainty(tiny_run, NAME, others=[type(tiny_run)(tiny_run.dir, record)])


def test_a_better_doubt_gains_over_a_blind_one():
    wrong = np.arange(100) >= 80
    gains = gain_draws(wrong, np.zeros(100), wrong, np.arange(100.0), np.arange(100))
    assert gains[0] > 0.05 and np.quantile(gains, 0.025) > 0


def test_members_that_agree_carry_no_information():
    sure = np.tile([[0.9, 0.1]], (3, 5, 1))
    assert mutual_information(sure) == pytest.approx(np.zeros(5), abs=1e-9)


def test_the_command_prints_what_it_saves(tiny_run):
    options = ["--artifact", NAME, "--kinds", "jpeg", "--severities", "2", "--json"]
    result = CliRunner().invoke(cli, ["robustness", str(tiny_run.dir), *options])
    assert result.exit_code == 0
    printed = msgspec.json.decode(result.stdout)
    assert printed["corruptions"] == [msgspec.json.decode((tiny_run.dir / "robustness" / f"{NAME}.json").read_bytes())]
    assert printed["doubt"][0]["doubts"][0]["curve"]["images"] == len(answers_of(tiny_run, NAME, "val").labels)
    assert (tiny_run.dir / "robustness" / f"{NAME}.png").exists()


def test_a_look_at_a_few_conditions_leaves_the_whole_result(tiny_run, measured):
    path = robustness.save_robustness(tiny_run, measured)
    whole = path.read_bytes()
    part = ["--artifact", NAME, "--kinds", "jpeg", "--severities", "5"]
    result = CliRunner().invoke(cli, ["robustness", str(tiny_run.dir), *part])
    assert "not saved: the run has these conditions and more already" in result.stdout
    assert path.read_bytes() == whole
    result = CliRunner().invoke(cli, ["robustness", str(tiny_run.dir), *part, "--seed", "1"])
    assert "saved     " in result.stdout and path.read_bytes() != whole, "another seed is another result"
