"""What may be acknowledged: for each spool the highest sequence with nothing missing below it.

A spool is one (device, epoch); its sequences begin at 1. A device deletes what is acknowledged, so a hole is never
passed while the device may still hold it. A device resends everything from the acknowledged sequence on, in order: when
the same report stands behind the same hole for the third time, the device no longer holds what is missing (it was
acknowledged by an earlier store, or lost), and the hole is counted and passed. Copies within 20 s are one resend: a
client that reconnects repeats its last message before it resends in order.
"""

from __future__ import annotations

from bisect import bisect_left, insort

RESENDS = 3
APART_MS = 20_000


class Watermark:
    """One spool: `contiguous` is the highest sequence with nothing missing below, `missing` counts passed sequences.

    >>> mark = Watermark()
    >>> for sequence in (1, 2, 4): mark.add(sequence, sequence)
    >>> mark.contiguous
    2
    >>> mark.add(3, 3); mark.contiguous
    4
    """

    __slots__ = ("_beyond", "_seen", "_seen_ms", "contiguous", "highest", "missing")

    def __init__(self, contiguous: int = 0, missing: int = 0) -> None:
        self.contiguous, self.missing = contiguous, missing
        self.highest = contiguous
        self._beyond: list[tuple[int, int]] = []
        self._seen, self._seen_ms = 1, 0

    def add(self, first: int, last: int, at_ms: int = 0) -> None:
        """Count the sequences `first` to `last`, received at `at_ms`, as held; again is fine."""
        if last > self.contiguous:
            at = bisect_left(self._beyond, (first, last))
            if self._beyond[at : at + 1] != [(first, last)]:
                insort(self._beyond, (first, last))
                if at == 0:
                    self._seen, self._seen_ms = 1, at_ms
            elif at == 0 and abs(at_ms - self._seen_ms) >= APART_MS:
                self._seen, self._seen_ms = self._seen + 1, at_ms
                self._pass()
            self.highest = max(self.highest, last)
        self._advance()

    def follow(self, sequence: int) -> bool:
        """Count a sequence as held if it is the next one and nothing is missing; whether it is."""
        if sequence != self.contiguous + 1 or self._beyond:
            return False
        self.contiguous = self.highest = sequence
        return True

    def await_again(self, sequence: int, at_ms: int) -> None:
        """The device still holds a missing sequence: the hole it lies in is not passed for now."""
        if self._beyond and self.contiguous < sequence < self._beyond[0][0]:
            self._seen, self._seen_ms = 1, at_ms

    def _pass(self) -> None:
        if self._seen >= RESENDS:
            passed = self._beyond[0][0] - 1
            self.missing += passed - self.contiguous
            self.contiguous = passed

    def _advance(self) -> None:
        while self._beyond and self._beyond[0][0] <= self.contiguous + 1:
            self.contiguous = max(self.contiguous, self._beyond.pop(0)[1])
            self._seen = 1
