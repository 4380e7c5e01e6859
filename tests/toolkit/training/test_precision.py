"""The scale of a float16 loss falls on overflow, grows when it is calm, and gives up at 1."""

from __future__ import annotations

from toolkit.training.precision import FIRST_SCALE, GROW_AFTER, Scale


def test_scale_halves_on_overflow_and_doubles_when_calm() -> None:
    scale = Scale("float16")
    assert scale.after(overflow=True) and scale.value == FIRST_SCALE / 2
    for _ in range(GROW_AFTER):
        assert not scale.after(overflow=False)
    assert scale.value == FIRST_SCALE and scale.calm == 0


def test_overflow_that_no_scale_mends_is_no_longer_passed_over() -> None:
    scale = Scale("float16")
    passed = [scale.after(overflow=True) for _ in range(20)]
    assert passed.count(True) == 15 and not passed[-1]


def test_other_types_have_no_scale() -> None:
    for dtype in ("bfloat16", "float32"):
        scale = Scale(dtype)
        assert not scale.after(overflow=True) and scale.value == 1.0
