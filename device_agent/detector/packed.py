"""Numbers in a few bytes: a hundred thousand devices stay in memory, and rounding favours neither side.

A sum that grows by less than its last place would stand still, or grow too fast, if it were rounded to the nearest. So
it is rounded up with the probability of what is cut off: by a dither in [0, 1) that runs evenly through the windows.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from device_agent.detector.evalue import Floats, independence

Codes = NDArray[np.uint16]
STEPS = 1024
"""Steps of W in one unit of log evidence: 16 bits hold 0 to 64."""
SHIFT, OFFSET = 13, (127 - 30) << 10
"""A sum is the upper bits of its float32: 10 bits of mantissa, 2^-30 to 2^34."""
UNKNOWN, NO_PHI = 0xFFFF, 0xFF
"""Codes of nan."""
_GOLDEN = (5**0.5 - 1) / 2
_ODDS, _PHI = 2048.0, 24.0


def dither(windows: NDArray[np.integer]) -> Floats:
    """What is added before a number is rounded down, in [0, 1): evenly spread over any stretch of windows.

    >>> dither(np.arange(1, 5)).round(3).tolist()
    [0.618, 0.236, 0.854, 0.472]
    """
    return np.asarray(np.modf(windows * _GOLDEN)[0])


def pack_sum(values: Floats, dither: Floats | float) -> Codes:
    """Sums >= 0 in 16 bits each, to 1 part in 1,024; under 2^-30 they are 0, over 2^34 they stay there.

    >>> unpack_sum(pack_sum(np.array([0.0, 1.0, 1500.5, 1e9]), 0.5)).tolist()
    [0.0, 1.0, 1501.0, 999817216.0]
    """
    bits = np.asarray(values, np.float32).view(np.int32) + np.asarray(dither * (1 << SHIFT)).astype(np.int32)
    return np.asarray(np.clip((bits >> SHIFT) - OFFSET, 0, UNKNOWN), np.uint16)


def unpack_sum(codes: Codes) -> Floats:
    """Sums that `pack_sum` packed."""
    bits = (codes.astype(np.int32) + OFFSET) << SHIFT
    return np.where(codes > 0, bits.view(np.float32), 0).astype(np.float64)


def pack_signed(values: Floats, dither: Floats | float) -> NDArray[np.int16]:
    """Sums of either sign in 16 bits each, to 1 part in 512.

    >>> unpack_signed(pack_signed(np.array([-300.0, 0.0, 2.5]), 0.5)).tolist()
    [-300.0, 0.0, 2.5]
    """
    return np.asarray(np.sign(values) * (pack_sum(np.abs(values), dither) >> 1), np.int16)


def unpack_signed(codes: NDArray[np.int16]) -> Floats:
    """Sums that `pack_signed` packed."""
    return np.sign(codes) * unpack_sum((np.abs(codes.astype(np.int32)) << 1).astype(np.uint16))


def pack_rate(rates: Floats) -> Codes:
    """Rates in (0, 1) as log-odds in 16 bits, to 0.03 % of their odds; nan stays nan.

    >>> unpack_rate(pack_rate(np.array([0.01, 0.4, 0.999, np.nan]))).round(6).tolist()
    [0.009999, 0.400046, 0.999, nan]
    """
    known = np.clip(np.where(np.isnan(rates), 0.5, rates), 1e-7, 1 - 1e-7)
    codes = np.rint((np.log(known) - np.log1p(-known)) * _ODDS) + (1 << 15)
    return np.where(np.isnan(rates), UNKNOWN, np.clip(codes, 0, UNKNOWN - 1)).astype(np.uint16)


def unpack_rate(codes: Codes) -> Floats:
    """Rates that `pack_rate` packed."""
    return np.asarray(rates()[codes])


def pack_phi(phi: Floats) -> NDArray[np.uint8]:
    """Over-dispersion of 1 to 39,000 in 8 bits, to 2 %, far closer than it can be known; nan stays nan.

    >>> unpack_phi(pack_phi(np.array([1.0, 39.0, 1200.0, np.nan]))).round(2).tolist()
    [1.0, 39.12, 1191.94, nan]
    """
    known = np.maximum(np.where(np.isnan(phi), 1.0, phi), 1.0)
    codes = np.rint(np.log(known) * _PHI)
    return np.where(np.isnan(phi), NO_PHI, np.clip(codes, 0, NO_PHI - 1)).astype(np.uint8)


def unpack_phi(codes: NDArray[np.uint8]) -> Floats:
    """Over-dispersions that `pack_phi` packed."""
    return np.asarray(_phis()[codes])


@cache
def evidence() -> Floats:
    """e^W of every W that 16 bits hold, (65536,)."""
    return np.exp(np.arange(1 << 16) / STEPS)


@cache
def repeats() -> Floats:
    """Repeat probability of every over-dispersion that 8 bits hold, (255,); see `evalue.independence`."""
    return independence(_phis()[:-1])


@cache
def rates() -> Floats:
    """The rate of every code of `pack_rate`, (65536,)."""
    odds = np.exp((np.arange(1 << 16) - (1 << 15)) / _ODDS)
    return np.append((odds / (1 + odds))[:-1], np.nan)


@cache
def _phis() -> Floats:
    return np.append(np.exp(np.arange(NO_PHI) / _PHI), np.nan)
