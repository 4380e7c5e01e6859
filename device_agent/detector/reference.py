"""What is normal for a device: rates of its streams, how uncertain they are, and how correlated its frames are."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.errors import BadInput
from device_agent.contract.histogram import BINS
from device_agent.contract.manifest import Baseline
from device_agent.detector.evalue import Floats, phi_of_pairs
from device_agent.detector.streams import StreamSet

TRANSFER = {"rare": 0.35, "bulk": 0.5}
"""Standard deviation, in log-odds, of a new camera's rate about the rate on the validation images."""


@dataclass(frozen=True)
class Reference:
    """Normal behaviour, one row a device.

    p0: (devices, streams) event rates in (0, 1), nan for a stream that is not bet on yet. bound: these moved 2 standard
    errors in the stream's direction, which the detector tests against. phi: (devices, streams) over-dispersion >= 1,
    nan while unknown (then it is learnt from same-cell pairs). agree: (devices,) probability that two independent
    frames share a cell. same: (devices,) probability that consecutive frames do, nan while unknown. longest:
    (devices,) longest known run of same-cell pairs. armed: (devices,) False while the line's prevalence is unknown;
    then nothing above info is raised.
    """

    p0: Floats
    bound: Floats
    phi: Floats
    agree: Floats
    same: Floats
    longest: Floats
    armed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.p0)

    def repeat(self, devices: int) -> Reference:
        """One row for each of `devices` devices of a single-row reference."""
        return self.take(np.zeros(devices, np.intp))

    def take(self, rows: NDArray[np.intp]) -> Reference:
        """The rows asked for."""
        return Reference(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def joined(self, other: Reference) -> Reference:
        """These rows, then those of `other`."""
        return Reference(
            **{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)}
        )

    def refined(self, streams: StreamSet, x: Floats, trials: Floats, phi: Floats) -> Reference:
        """The reference after a device's own first frames: precision-weighted log-odds of both.

        Args:
            streams: of the model.
            x, trials: (devices, streams), see `StreamSet.tally`, summed over a time taken as healthy.
            phi: (devices, streams) over-dispersion of these frames, >= 1.
        """
        have, width = _logit(self.p0), np.abs(_logit(self.bound) - _logit(self.p0)) / 2 + 1e-9
        own = np.clip((x + 0.5) / (trials + 1), 1e-7, 1 - 1e-7)
        seen = trials * own * (1 - own) / phi
        precision = width**-2 + seen
        centre = (have / width**2 + _logit(own) * seen) / precision
        bound = _expit(centre + streams.direction * 2 / np.sqrt(precision))
        return replace(self, p0=_expit(centre), bound=bound)

    def dump(self) -> bytes:
        """Bytes that `load` reads."""
        out = io.BytesIO()
        np.savez(out, **{field.name: getattr(self, field.name) for field in fields(self)})
        return out.getvalue()

    @classmethod
    def load(cls, content: bytes) -> Reference:
        """The reference that `dump` wrote.

        Raises:
            BadInput: other bytes.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"reference: {len(content)} bytes that are none: {str(error).lower()}") from error


def weighted_cells(baseline: Baseline, prevalence: list[float] | None = None) -> Floats:
    """Cell shares (classes, 24) expected on the line: validation counts weighted to its prevalence.

    `prevalence` overrides the baseline's; with neither the validation set's own shares are used. A stated class that
    was never validated counts as spread over all cells.
    """
    counts, weights = _counts(baseline, prevalence)
    totals = counts.sum(axis=(1, 2), keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), 1 / counts[0].size)
    return np.asarray(np.tensordot(weights, shares, axes=1))


def reference_from_baseline(
    baseline: Baseline,
    streams: StreamSet,
    *,
    prevalence: list[float] | None = None,
    transfer: float = 1.0,
) -> Reference:
    """Reference of one row for a device without history, from a bundle's validation counts.

    Rates are weighted to the stated prevalence, as validation data has the training set's shares. The bound is the
    Wilson limit at 2 standard errors of the finite sample, joined in log-odds with 2 `TRANSFER`: a new camera is
    not the validation set's. Run streams wait for a history. It is not armed when no prevalence is stated.

    Args:
        baseline: counts [true class, predicted class, bin].
        streams: of the same model.
        prevalence: overrides the baseline's own.
        transfer: factor on `TRANSFER`; 0 trusts that the line looks like the validation images.

    Raises:
        BadInput: an empty baseline, or streams of another number of classes.
    """
    counts, weights = _counts(baseline, prevalence)
    if streams.masks.shape[1] != baseline.classes * BINS:
        raise BadInput(f"detector: streams of {streams.masks.shape[1]} cells for {baseline.classes} classes")
    totals = counts.sum(axis=(1, 2))
    rates = (counts.reshape(len(counts), -1) @ streams.masks.T + 0.5) / (totals[:, None] + 1)
    p0 = np.clip(weights @ rates, 1e-6, 1 - 1e-6)
    variance = (weights[:, None] ** 2 * rates * (1 - rates) / (totals[:, None] + 1)).sum(axis=0)
    limit = _wilson(p0, p0 * (1 - p0) / np.maximum(variance, 1e-15), streams.direction)
    spread = 2 * transfer * np.array([TRANSFER[kind] for kind in streams.kind])
    bound = _expit(_logit(p0) + streams.direction * np.hypot(_logit(limit) - _logit(p0), spread))
    cells = weighted_cells(baseline, prevalence)
    return Reference(
        p0=np.where(streams.runs, np.nan, p0)[None],
        bound=np.where(streams.runs, np.nan, bound)[None],
        phi=np.full((1, len(p0)), np.nan),
        agree=np.array([(cells**2).sum()]),
        same=np.array([np.nan]),
        longest=np.zeros(1),
        armed=np.array([prevalence is not None or baseline.prevalence is not None]),
    )


def reference_from_history(
    counts: NDArray[np.integer], same: NDArray[np.integer], streams: StreamSet, *, block: int = 60
) -> Reference:
    """Reference of each device from its own healthy past; 3 to 7 days serve well.

    phi is the largest of 1, the dispersion of windows, that of blocks of windows, and what same-cell pairs show:
    minutes see the correlation of frames, hours the harmless change of a line. The bound is the Wilson limit of
    frames / phi.

    Args:
        counts: (devices, windows, cells) or (windows, cells) counts.
        same: (devices, windows) or (windows,) same-cell pairs.
        streams: of the model.
        block: windows of one block, an hour by default.

    Raises:
        BadInput: a device without a single frame.
    """
    counts, same = (counts, same) if counts.ndim == 3 else (counts[None], same[None])
    frames = counts.sum(axis=2)
    x, trials = streams.tally(counts, frames, same)
    seen, total = frames.sum(axis=1), trials.sum(axis=1)
    if not len(seen) or seen.min() < 1:
        raise BadInput("detector: a device without frames has no history to learn from")
    p0 = np.clip((x.sum(axis=1) + 0.5) / (total + 1), 1e-7, 1 - 1e-7)
    cells = counts.sum(axis=1) / seen[:, None]
    agree = (cells**2).sum(axis=1)
    pairs = np.maximum(frames - 1.0, 1) * (frames > 0)
    known = np.minimum(same, pairs).sum(axis=1)
    whole = frames.shape[1] // block * block
    held = np.where(streams.runs, 1, phi_of_pairs(known, pairs.sum(axis=1), agree)[:, None])
    phi = np.maximum(held, _dispersion(x, trials, p0))
    if whole >= 4 * block:
        hourly = [part[:, :whole].reshape(len(x), -1, block, x.shape[2]).sum(axis=2) for part in (x, trials)]
        phi = np.maximum(phi, _dispersion(hourly[0], hourly[1], p0))
    return Reference(
        p0=p0,
        bound=_wilson(p0, np.maximum(total, 1) / phi, streams.direction),
        phi=phi,
        agree=agree,
        same=(known + 1) / (pairs.sum(axis=1) + 2),
        longest=_longest_run(same, pairs),
        armed=np.ones(len(p0), np.bool_),
    )


def estimate_prevalence(baseline: Baseline, observed: NDArray[np.integer], *, steps: int = 200) -> list[float]:
    """Share of each true class on a line, from what its first day looked like: EM over cells (Saerens et al. 2002).

    Args:
        baseline: counts [true class, predicted class, bin].
        observed: (classes, 24) counts of the line.
        steps: of EM.

    >>> truth = np.zeros((2, 2, 24), int)
    >>> truth[0, 0, 15], truth[0, 1, 5], truth[1, 1, 15], truth[1, 0, 5] = 95, 5, 80, 20
    >>> line = np.zeros((2, 24), int)
    >>> line[0, 15], line[1, 5], line[1, 15], line[0, 5] = 931, 49, 16, 4
    >>> [round(share, 3) for share in estimate_prevalence(Baseline.of(truth), line)]
    [0.98, 0.02]
    """
    counts = baseline.dense().reshape(baseline.classes, -1)
    given = (counts + 0.1 / counts.shape[1]) / (counts.sum(axis=1, keepdims=True) + 0.1)
    seen = np.asarray(observed, np.float64).ravel()
    shares = np.full(baseline.classes, 1 / baseline.classes)
    for _ in range(steps):
        joint = shares[:, None] * given
        shares = (joint / joint.sum(axis=0) * seen).sum(axis=1)
        shares = shares / max(shares.sum(), 1e-300)
    return [float(share) for share in shares]


def _counts(baseline: Baseline, prevalence: list[float] | None) -> tuple[Floats, Floats]:
    counts = baseline.dense().astype(np.float64)
    if counts.sum() < 1:
        raise BadInput("baseline: no validation counts; evaluate the artifact before it is packed")
    stated = prevalence if prevalence is not None else baseline.prevalence
    if stated is None:
        return counts, counts.sum(axis=(1, 2)) / counts.sum()
    if len(stated) != len(counts) or min(stated) < 0 or sum(stated) <= 0:
        raise BadInput(f"baseline: prevalence {stated} must be {len(counts)} shares that add up to 1")
    return counts, np.array(stated, np.float64) / sum(stated)


def _dispersion(x: Floats, n: Floats, p0: Floats) -> Floats:
    """mean((x - n p0)^2 / (n p0 (1 - p0))) over windows with trials; x, n (devices, windows, streams)."""
    expected = n * p0[:, None]
    squares = (x - expected) ** 2 / np.maximum(expected * (1 - p0[:, None]), 1e-12)
    return np.asarray((squares * (n > 0)).sum(axis=1) / np.maximum((n > 0).sum(axis=1), 1))


def _longest_run(same: NDArray[np.integer], pairs: Floats) -> Floats:
    """Most same-cell pairs in a row of windows that hold nothing else, (devices,)."""
    run, longest = np.zeros(len(same)), np.zeros(len(same))
    for window in range(same.shape[1]):
        full = (same[:, window] >= pairs[:, window]) & (pairs[:, window] > 0)
        run = np.where(full, run + pairs[:, window], 0)
        longest = np.maximum(longest, run)
    return longest


def _wilson(rate: Floats, frames: Floats, direction: NDArray[np.int8], z: float = 2.0) -> Floats:
    """Wilson's limit z standard errors off, towards `direction`."""
    off = z * np.sqrt(rate * (1 - rate) / frames + z * z / (4 * frames * frames))
    return np.clip((rate + z * z / (2 * frames) + direction * off) / (1 + z * z / frames), 1e-7, 1 - 1e-7)


def _logit(rate: Floats) -> Floats:
    return np.log(rate) - np.log1p(-rate)


def _expit(odds: Floats) -> Floats:
    return np.clip(1 / (1 + np.exp(-odds)), 1e-7, 1 - 1e-7)
