"""The gate passes what computes the same, and objects to each way of not doing so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from converters.parity import GATES, ParityReport, Reference, check_spread, compare, measure, precision_of
from device_agent.contract.errors import BadInput, ParityFailed
from device_agent.contract.manifest import InputSpec

MODELS = Path(__file__).parents[1] / "data" / "models"
LABELS = np.random.default_rng(0).integers(0, 4, 400)
KERAS = (np.eye(4)[LABELS] * 4 + np.random.default_rng(1).normal(0, 1, (400, 4))).astype(np.float32)


def noisy(share: float) -> np.ndarray:
    return KERAS + np.random.default_rng(2).normal(0, share * check_spread(KERAS), KERAS.shape)


@pytest.mark.parametrize("precision", list(GATES))
def test_equal_logits_pass(precision: str) -> None:
    report = compare(KERAS, KERAS, LABELS, precision)
    assert report.passed
    assert report.agreement == 1
    assert report.max_error == 0
    assert 0.9 < report.macro_f1 == report.keras_macro_f1 < 1


def test_a_shift_of_all_logits_changes_no_probability_and_passes() -> None:
    assert compare(KERAS + 3, KERAS, LABELS, "fp32").passed


@pytest.mark.parametrize(
    ("precision", "share", "passes"),
    [("fp32", 1e-5, True), ("fp32", 1e-2, False), ("fp16", 1e-3, True), ("fp16", 0.1, False), ("int8", 0.05, True)],
)
def test_noise_is_judged_by_precision(precision: str, share: float, passes: bool) -> None:
    assert compare(noisy(share), KERAS, LABELS, precision).passed is passes


def test_int8_that_loses_a_class_fails_by_macro_f1() -> None:
    got = KERAS.copy()
    got[:, 3] -= 4
    failures = compare(got, KERAS, LABELS, "int8").failures
    assert any(sentence.startswith("macro-F1") for sentence in failures), failures


@pytest.mark.parametrize(
    ("rare", "lost", "passes"), [(1, 1, True), (10, 2, True), (10, 5, False), (40, 4, True), (40, 8, False)]
)
def test_int8_that_loses_the_rarest_defect_fails_by_its_recall(rare: int, lost: int, passes: bool) -> None:
    labels = np.repeat([0, 1, 2], [3000, 1000, rare])
    keras = np.eye(3)[labels] * 4 + np.random.default_rng(0).normal(0, 0.1, (len(labels), 3))
    keras[len(labels) - lost :, 0] += 3
    got = keras.copy()
    got[len(labels) - lost :, 0] += 2
    report = compare(got, keras, labels, "int8", names=["good", "dent", "pit"], defects=[1, 2])
    assert report.rarest is not None and (report.rarest.name, report.rarest.images) == ("pit", rare)
    assert report.rarest.keras - report.rarest.artifact == pytest.approx(lost / rare)
    assert report.rarest.drop_low < lost / rare <= report.rarest.drop_high + 0.2 / rare
    assert any(said.startswith("recall of pit") for said in report.failures) is not passes
    low, high = report.agreement_interval or (0.0, 0.0)
    assert low < report.agreement <= high


def test_the_rarest_class_is_a_defect_where_one_occurs() -> None:
    labels = np.repeat([0, 1, 2], [10, 200, 300])
    keras = np.eye(3)[labels]
    names = ["good", "dent", "pit"]
    for defects, rarest in (([1, 2], "dent"), ([], "good"), ([3], "good")):
        report = compare(keras, keras, labels, "int8", names=names, defects=defects)
        assert report.rarest is not None and report.rarest.name == rarest


def test_a_record_of_old_still_reads() -> None:
    report = msgspec.json.decode(msgspec.json.encode(compare(KERAS, KERAS, LABELS, "int8")))
    del report["rarest"], report["agreement_interval"]
    old = msgspec.convert(report, ParityReport)
    assert old.passed and old.rarest is None


def test_few_images_are_given_their_sampling_error() -> None:
    got = KERAS[:30].copy()
    row = int(np.argmin(np.ptp(np.sort(got, axis=1)[:, -2:], axis=1)))
    got[row, got[row].argmax()] -= 3
    report = compare(got, KERAS[:30], LABELS[:30], "int8")
    assert report.agreement < 1
    assert report.f1_drop_error > 0.01
    assert report.passed


@pytest.mark.parametrize(("share", "passes"), [(0.19, True), (0.21, False), (0.45, False)])
def test_int8_may_err_by_a_fifth_of_the_spread(share: float, passes: bool) -> None:
    signs = np.where(np.arange(4) % 2, -1, 1) * np.where(np.arange(400)[:, None] % 2, -1, 1)
    far = KERAS + 40 * np.eye(4)[LABELS]
    report = compare(far + share * check_spread(far) * signs, far, LABELS, "int8")
    assert report.mean_error == pytest.approx(share, rel=1e-6) and report.agreement == 1
    assert report.passed is passes


@pytest.mark.parametrize(("share", "passes"), [(1.9, True), (2.1, False)])
def test_no_single_int8_logit_may_err_by_twice_the_spread(share: float, passes: bool) -> None:
    got = KERAS.copy()
    got[0, LABELS[0]] += share * check_spread(KERAS) * 4 / 3
    assert compare(got, KERAS, LABELS, "int8").passed is passes


@pytest.mark.parametrize(("flipped", "passes"), [(26, True), (28, False)])
def test_int8_may_call_every_twentieth_image_otherwise(flipped: int, passes: bool) -> None:
    got, keras, labels = _flip(flipped, 400)
    report = compare(got, keras, labels[:4], "int8")
    assert report.agreement == pytest.approx(1 - flipped / 400)
    assert not any("macro-F1" in said for said in report.failures)
    assert report.passed is passes


@pytest.mark.parametrize(("flipped", "passes"), [(1, True), (2, False)])
def test_few_images_are_granted_no_more_than_the_sampling_error_of_enough(flipped: int, passes: bool) -> None:
    got, keras, labels = _flip(flipped, 18)
    report = compare(got, keras, labels[:4], "int8")
    assert report.passed is passes
    assert report.doubt.startswith("not proved: 18 of 200 images, macro-F1 ")


@pytest.mark.parametrize(("drop", "passes"), [(0.014, True), (0.02, False), (0.045, False)])
def test_int8_may_lose_one_and_a_half_points_of_macro_f1(drop: float, passes: bool) -> None:
    report = compare(*_flip(round(drop * 8000), 8000), "int8")
    assert report.keras_macro_f1 - report.macro_f1 == pytest.approx(drop, abs=0.001)
    assert report.passed is (drop - 1.645 * report.f1_drop_error <= 0.015) is passes


def test_logits_are_judged_on_images_without_a_label_too() -> None:
    got = KERAS.copy()
    got[30:] = got[30:, ::-1]
    assert compare(got[:30], KERAS[:30], LABELS[:30], "int8").passed
    report = compare(got, KERAS, LABELS[:30], "int8")
    assert report.images == 400 and report.proved and not report.passed
    assert report.macro_f1 == compare(got[:30], KERAS[:30], LABELS[:30], "int8").macro_f1


def _flip(flipped: int, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of an artifact that calls the last `flipped` of images of four classes in turn by the class before, with
    next to no error; Keras' logits; the labels."""
    labels = np.arange(images) % 4
    before, near = np.eye(4)[labels - 1], np.arange(images)[:, None] >= images - flipped
    keras = np.eye(4)[labels] * np.where(near, 0.02, 4) + before * 0.01
    return keras + before * near * 0.02, keras, labels


def test_shuffled_answers_fail_every_gate() -> None:
    for precision in GATES:
        assert not compare(KERAS[::-1], KERAS, LABELS, precision).passed


def test_logits_that_are_not_finite_fail() -> None:
    got = KERAS.copy()
    got[0, 0] = np.nan
    assert compare(got, KERAS, LABELS, "int8").failures == ["logits that are not finite"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (np.full((50, 3), 1 / 3), "outputs are the same for all 50 images"),
        (np.tile([0.0, 1.0, 2.0], (50, 1)), "outputs are the same"),
        (np.linspace(1, 2, 50)[:, None] * [0.0, 1.0, 2.0], "predicts class 2 for all 50 images"),
        (np.full((50, 3), np.nan), "not finite"),
    ],
    ids=["untrained", "one answer", "one class", "nan"],
)
def test_outputs_that_do_not_spread_prove_nothing(reference: np.ndarray, words: str) -> None:
    with pytest.raises(ParityFailed, match=words):
        compare(reference, reference, np.zeros(50, int), "int8")
    if "class 2" in words:
        with pytest.raises(ParityFailed, match=r"predicts 'pit' for all 50 images.*train longer"):
            check_spread(reference, ["a", "good", "pit"])


def test_measured_through_the_device_runtime() -> None:
    pytest.importorskip("ai_edge_litert")
    spec = InputSpec(height=8, width=8)
    images = np.random.default_rng(3).integers(0, 256, (40, 1, 1, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    weights, bias = np.array([[1, -1], [2, 0.5], [-0.5, 1]]), np.array([0.25, -0.25])
    keras = ((images / 127.5 - 1).mean(axis=(1, 2)) @ weights + bias).astype(np.float32)
    reference = Reference(images, keras.argmax(axis=1), keras, images[:8])
    assert measure("litert", "fp32", MODELS / "tiny.tflite", spec, reference).passed
    assert measure("litert", "int8", MODELS / "tiny-int8.tflite", spec, reference).passed
    assert not measure("litert", "fp32", MODELS / "tiny-int8.tflite", spec, reference).passed
    other = msgspec.structs.replace(reference, logits=np.hstack([keras, keras]))
    with pytest.raises(ParityFailed, match="gives 2 logits, Keras 4"):
        measure("litert", "fp32", MODELS / "tiny.tflite", spec, other)


def test_name_of_an_artifact() -> None:
    with pytest.raises(BadInput, match="RUNTIME-PRECISION"):
        precision_of("litert")
