"""What may ask for a retraining: labels, golden parts, a person or a business rule, and never a statistic alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import msgspec

from device_agent.contract.alert import Evidence, Trigger
from device_agent.contract.errors import BadInput

MOST_COUNT = 10**9
MOST_EXACT = 10**6


def tail(least: int, trials: int, share: float) -> float:
    """P(X >= least) of a binomial count, summed from its largest term.

    >>> round(tail(2, 10, 0.1), 4), tail(0, 10, 0.1)
    (0.2639, 1.0)
    """
    if least <= 0:
        return 1.0
    if least > trials or share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    if least > trials * share:
        return min(1.0, _up(least, trials, share))
    return max(0.0, 1.0 - _up(trials - least + 1, trials, 1 - share))


def _up(least: int, trials: int, share: float) -> float:
    """P(X >= least) where `least` is above the mean: terms fall from the first on."""
    odds = share / (1 - share)
    log_term = math.lgamma(trials + 1) - math.lgamma(least + 1) - math.lgamma(trials - least + 1)
    term = total = math.exp(log_term + least * math.log(share) + (trials - least) * math.log1p(-share))
    for count in range(least, trials):
        term *= odds * (trials - count) / (count + 1)
        total += term
        if term < total * 1e-17:
            break
    return total


def exact_interval(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Limits of a share from a count (Clopper and Pearson 1934).

    >>> low, high = exact_interval(7, 100)
    >>> round(low, 4), round(high, 4)
    (0.0286, 0.1389)

    Raises:
        BadInput: no count of at least one trial.
    """
    if not 0 <= events <= trials or not 1 <= trials <= MOST_COUNT:
        raise BadInput(f"{events} of {trials}: must be a count out of 1 to {MOST_COUNT}")
    rest = (1 - confidence) / 2
    low = 0.0 if events == 0 else _solve(lambda p: tail(events, trials, p) - rest)
    high = 1.0 if events == trials else _solve(lambda p: rest - (1 - tail(events + 1, trials, p)))
    return low, high


def _solve(rising: Callable[[float], float]) -> float:
    """Where a rising function of a share is 0."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def labelled_evidence(
    right: int, parts: int, expected: float, *, figure: str = "accuracy", from_ms: int = 0, to_ms: int = 0
) -> Evidence:
    """`right` of `parts` labelled parts were answered rightly, where a share of `expected` was.

    Raises:
        BadInput: no such count or share.
    """
    if not 0 < expected <= 1:
        raise BadInput(f"{figure}: expected must be over 0 and at most 1, got {expected:g}")
    low, high = exact_interval(right, parts)
    text = f"{figure} {right / parts:.3f} ({low:.3f} to {high:.3f}) on {parts} labelled parts, expected {expected:.3f}"
    return Evidence(kind="labelled", figure=figure, value=right / parts, low=low, high=high, expected=expected,
                    n=parts, from_ms=from_ms, to_ms=to_ms, text=text)  # fmt: skip


def golden_evidence(wrong: int, shown: int, *, claim: float = 1.0, from_ms: int = 0, to_ms: int = 0) -> Evidence:
    """`wrong` of `shown` golden parts were answered wrongly, on a line that claims a share of `claim` right.

    Raises:
        BadInput: no such count or share.
    """
    if not 0 < claim <= 1:
        raise BadInput(f"claim must be over 0 and at most 1, got {claim:g}")
    low, high = exact_interval(wrong, shown)
    text = f"{wrong} of {shown} golden parts wrong ({low:.3f} to {high:.3f}), at most {1 - claim:.3f} claimed"
    return Evidence(kind="golden", figure="golden_failures", value=wrong / shown, low=low, high=high,
                    expected=1 - claim, n=shown, from_ms=from_ms, to_ms=to_ms, text=text)  # fmt: skip


def shows_a_fall(one: Evidence) -> bool:
    """Whether the interval of a figure lies wholly on the bad side of what was expected: below for labels, above for
    golden parts that went wrong."""
    if one.expected is None or one.low is None or one.high is None or one.n < 1:
        return False
    return one.high < one.expected if one.kind == "labelled" else one.low > one.expected


def check_grounds(trigger: Trigger) -> None:
    """Refuse a trigger that rests on a statistic alone.

    Raises:
        BadInput: labels that show no fall, golden parts that did not fail, a person without a name or a reason, a rule
            without a figure that a person or a known part stands behind.
    """
    where = f"trigger for {trigger.model}"
    for one in trigger.evidence:
        numbers = [one.value, *(each for each in (one.low, one.high, one.expected) if each is not None)]
        if not all(map(math.isfinite, numbers)) or not 0 <= one.n <= MOST_COUNT:
            raise BadInput(f"{where}: {one.figure} has a number that is none")
    if trigger.reason == "person":
        if not trigger.created_by.strip() or not trigger.text.strip():
            raise BadInput(f"{where}: a person gives a name and a reason; say why with --because")
    elif trigger.reason == "rule":
        if not trigger.rule or all(one.kind == "statistic" for one in trigger.evidence):
            raise BadInput(f"{where}: a rule needs a figure of labels, golden parts or the business, none was given")
    else:
        kind = "labelled" if trigger.reason == "labels" else "golden"
        if not any(one.kind == kind and shows_a_fall(one) for one in trigger.evidence):
            raise BadInput(
                f"{where}: reason {trigger.reason!r} needs {kind} evidence whose 95 % interval lies on the bad side of "
                f"what was expected; a person can ask without: --reason person --because WHY"
            )


def trigger_id(model: str, reason: str, what: str, from_ms: int, to_ms: int) -> str:
    """16 hexadecimal digits of what is asked for: the same evidence always asks for the same training.

    >>> trigger_id("00010203f0f1f2f3", "golden", "", 0, 604_800_000)
    'f6719731d880dd3a'
    """
    content = msgspec.json.encode([model, reason, what, from_ms, to_ms])
    return hashlib.sha256(content).hexdigest()[:16]
