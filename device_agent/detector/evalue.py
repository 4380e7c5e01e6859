"""Bets against "nothing changed" that stay fair when frames are correlated, and the thresholds they have to reach."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput

Floats = NDArray[np.float64]


def tilt(rate: Floats, rho: Floats, lift: Floats) -> tuple[Floats, Floats]:
    """Stake theta for each event and price kappa of each frame: exp(theta x - kappa n) is an e-value.

    The null is a camera whose frame stays in the cell of the frame before it with probability `rho` and is drawn anew
    otherwise, with an event rate of `rate`. kappa(theta) is the log of the largest eigenvalue of that two-state chain's
    tilted transition matrix, so the bet is fair for independent frames (rho = 0 gives the binomial likelihood ratio),
    for long runs, for rare and for common events alike; for rare events and long runs it is the cluster-safe Poisson
    scale. theta is the stake that grows fastest when the odds of the event are `lift` times those of the null: the
    saddle point, where the tilted chain's own rate has these odds (Dembo and Zeitouni 1998, 3.1).

    Args:
        rate: event rate under the null, in (0, 1).
        rho: probability that a frame repeats the one before it, in [0, 1).
        lift: odds ratio bet on, > 0; over 1 bets on more events, under 1 on fewer.

    >>> theta, kappa = tilt(np.array([0.5, 0.01]), np.array([0.0, 0.95]), np.array([3.0, 3.0]))
    >>> theta.round(4).tolist(), kappa.round(5).tolist()
    ([1.0986, 0.0218], [0.69315, 0.00038])
    """
    root = np.sqrt(lift)
    fresh = (1 - rho) * rate
    up, down = fresh * root, (1 - rho - fresh) / root
    stay = rho + fresh
    gap = up - down
    grow = (gap + np.sqrt(gap * gap + 4 * stay * (1 - fresh))) / (2 * stay)
    return 2 * np.log(grow), np.log(1 + fresh * (root * grow - 1))


def independence(phi: Floats) -> Floats:
    """Repeat probability rho of the chain whose counts vary `phi` >= 1 times as much as independent frames would.

    >>> independence(np.array([1.0, 39.0])).tolist()
    [0.0, 0.95]
    """
    return (phi - 1) / (phi + 1)


def phi_of_pairs(same: Floats, pairs: Floats, agree: Floats) -> Floats:
    """Over-dispersion (1 + rho) / (1 - rho) from pairs of consecutive frames: its upper limit, 1 to 99.

    rho = (same / pairs - agree) / (1 - agree), plus 2 standard errors with the
    variance doubled. Without any pair it is 99: unknown is taken as correlated.

    Args:
        same: pairs in the same histogram cell.
        pairs: pairs counted.
        agree: probability that two independent frames fall in one cell, sum of squared cell shares.

    >>> phi_of_pairs(np.array([0.0, 260.0, 9.62e5]), np.array([0.0, 1000.0, 1e6]), np.array(0.25)).round(1).tolist()
    [99.0, 1.1, 39.0]
    """
    share = (same + 1) / (pairs + 2)
    spread = np.maximum(1 - agree, 1e-3)
    rho = np.clip((share - agree) / spread, 0, 0.98)
    noise = 2 * share * (1 - share) / np.maximum(pairs, 1e-9)
    rho = np.clip(rho + 2 * np.sqrt(noise) / spread, 0, 0.98)
    return np.asarray((1 + rho) / (1 - rho))


def threshold(devices: int, windows_a_week: float = 10_080, pages_a_week: float = 1.0) -> float:
    """Score at which a device pages, so that a healthy fleet raises about `pages_a_week` false pages (Lorden 1971).

    Args:
        devices: in the whole fleet, >= 1.
        windows_a_week: reports of one device in a week; 10,080 at one a minute.
        pages_a_week: the dial, > 0, false pages a week of the whole fleet.

    >>> round(threshold(1_000), 1), round(threshold(100_000), 1)
    (16.1, 20.7)

    Raises:
        BadInput: a number that is not above 0.
    """
    if not (devices >= 1 and windows_a_week > 0 and 0 < pages_a_week < math.inf):
        raise BadInput(
            f"detector: {devices} devices, {windows_a_week} windows and {pages_a_week} pages a week: all must be over 0"
        )
    return max(3.0, math.log(devices * windows_a_week / pages_a_week))


def warn_threshold(page: float, windows_a_week: float = 10_080) -> float:
    """Score at which a device warns: one false warning a device-month, and always at least 3 below the page.

    >>> round(warn_threshold(threshold(1_000)), 2), round(warn_threshold(threshold(4)), 2)
    (10.67, 7.6)
    """
    return min(math.log(windows_a_week * 30 / 7), page - 3) if page > 4 else page * 0.75


def poisson_limits(events: Floats) -> tuple[Floats, Floats]:
    """95 % limits of a mean from a count (Byar's approximation; Breslow and Day 1987); fractional counts allowed."""
    few = np.maximum(events, 1e-9)
    low = np.maximum(1 - 1 / (9 * few) - 1.96 / (3 * np.sqrt(few)), 0)
    more = events + 1
    high = 1 - 1 / (9 * more) + 1.96 / (3 * np.sqrt(more))
    return events * low * low * low, more * high * high * high
