"""What may be acknowledged: never past a hole that the device may still hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.watermark import APART_MS, RESENDS, Watermark


@given(st.permutations(range(1, 30)), st.integers(0, 29))
def test_any_order_acknowledges_the_longest_whole_beginning(order, taken):
    mark = Watermark()
    for sequence in order[:taken]:
        mark.add(sequence, sequence)
    whole = next(k for k in range(31) if k + 1 not in order[:taken])
    assert mark.contiguous == whole and mark.missing == 0


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12)), max_size=25))
def test_ranges_count_like_their_sequences(ranges):
    wide, single = Watermark(), Watermark()
    for first, length in ranges:
        wide.add(first, first + length)
        for sequence in range(first, first + length + 1):
            single.add(sequence, sequence)
    assert wide.contiguous == single.contiguous


def test_a_hole_is_passed_only_after_resends_that_lie_apart():
    mark = Watermark()
    for at_ms in range(0, 10 * APART_MS, APART_MS // 10):
        mark.add(5, 5, at_ms)
        mark.add(6, 6, at_ms)
        resends = 1 + at_ms // APART_MS
        assert mark.contiguous == (6 if resends >= RESENDS else 0)
    assert mark.missing == 4


def test_a_clock_that_was_set_back_does_not_hold_up_a_hole():
    mark = Watermark()
    for at_ms in (3_600_000, 0, APART_MS):
        mark.add(5, 5, at_ms)
    assert (mark.contiguous, mark.missing) == (5, 4)


def test_what_arrives_in_the_hole_starts_the_count_anew():
    mark = Watermark()
    for at_ms in (0, APART_MS):
        mark.add(5, 5, at_ms)
    mark.add(3, 3, APART_MS)
    for at_ms in (2 * APART_MS, 3 * APART_MS):
        mark.add(5, 5, at_ms)
    assert mark.contiguous == 0
    mark.add(1, 1), mark.add(2, 2), mark.add(4, 4)
    assert mark.contiguous == 5
