"""Which samples to label next, kept in the store with the chance that each had of being drawn."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.errors import NotFound
from fleet.accuracy.drawing import Aim, allocate, uncertainty
from fleet.accuracy.validation import Coarse, Validation
from fleet.schema import LABEL, LABEL_REQUEST, SAMPLE
from fleet.store import upsert

APART_MS = 10_000
"""Samples of one device and stratum that are nearer than this may show one part."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A sample to label. `probability` with which it was drawn of its stratum's samples, `weight` the share of the
    line's frames that it stands for."""

    sample: str
    device: str
    model: str
    at_ms: int
    stratum: int
    predicted: str
    probability: float
    weight: float


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    """A predicted class and band of log-odds: share of the line's frames, samples there, samples drawn."""

    predicted: str
    log_odds: str
    weight: float
    available: int
    drawn: int


class LabelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was drawn, by stratum. `unreachable` is the share of the line's frames in strata without a sample."""

    request: str
    model: str
    aim: Aim
    budget: int
    unreachable: float
    strata: list[Stratum]
    samples: list[Wanted]
    provenance: Literal["measured"] = "measured"


def draw_request(
    tx: Connection,
    validation: Validation,
    model: str,
    seen: NDArray[np.integer],
    rng: np.random.Generator,
    *,
    budget: int,
    aim: Aim = "recall",
    since_ms: int = 0,
    devices: Collection[str] | None = None,
) -> LabelRequest:
    """Draw samples that nobody labelled yet: the more of a stratum, the more of the line it is and the less sure.

    Args:
        validation: of the model.
        model: id.
        seen: (classes, 24) counts of the line, which weigh the strata.
        rng: that draws.
        budget: how many labels.
        aim: the figure that they are for.
        since_ms: samples of before are left out.
        devices: only of these.

    Raises:
        NotFound: no sample is left to be labelled.
        BadInput: no budget, or counts of other classes.
    """
    coarse = validation.bands()
    weight = coarse.pool(validation.fold(seen))
    weight = weight / max(weight.sum(), 1e-300)
    rows = _candidates(tx, coarse, model, since_ms, devices)
    available = np.array([len(rows[k]) for k in range(len(weight))])
    if not available.any():
        raise NotFound("labels: no sample is left to be labelled; devices keep them with --samples, see the guide")
    reach = np.where((weight == 0) & (available > 0), 1e-9, weight)
    drawn = allocate(reach, uncertainty(coarse, weight, aim), available, budget)
    samples = []
    for k in range(len(weight)):
        chosen = rng.permutation(int(available[k]))[: int(drawn[k])].tolist()
        share = float(drawn[k] / max(available[k], 1))
        each = float(weight[k] / max(drawn[k], 1))
        name = validation.names[coarse.predicted[k]]
        for row in (rows[k][index] for index in sorted(chosen)):
            samples.append(
                Wanted(
                    sample=row[0],
                    device=row[1],
                    model=model,
                    at_ms=row[2],
                    stratum=k,
                    predicted=name,
                    probability=share,
                    weight=each,
                )
            )
    digest = hashlib.sha256("".join([model, aim, *(one.sample for one in samples)]).encode()).hexdigest()[:16]
    return LabelRequest(
        request=digest,
        model=model,
        aim=aim,
        budget=budget,
        unreachable=float(weight[available == 0].sum()),
        strata=[_stratum(coarse, k, weight[k], available[k], drawn[k]) for k in range(len(weight))],
        samples=samples,
    )


def keep_request(tx: Connection, request: LabelRequest, now_ms: int) -> None:
    """Store what was drawn; the same draw again changes nothing."""
    names = [column.name for column in LABEL_REQUEST.c if column.name not in ("request", "asked_ms")]
    rows = [
        {"request": request.request, "asked_ms": now_ms, **{name: getattr(one, name) for name in names}}
        for one in request.samples
    ]
    upsert(tx, LABEL_REQUEST, rows, keep=("asked_ms",))


class Progress(msgspec.Struct, frozen=True):
    """A request, when it was made, and how many of its samples have a label by now."""

    request: str
    model: str
    asked_ms: int
    samples: int
    labelled: int


def read_requests(tx: Connection) -> list[Progress]:
    """Every request, the newest first."""
    labelled = {row.item for row in tx.execute(select(LABEL.c.item).distinct())}
    found: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)
    columns = (LABEL_REQUEST.c.request, LABEL_REQUEST.c.model, LABEL_REQUEST.c.asked_ms, LABEL_REQUEST.c.sample)
    for request, model, asked_ms, sample in tx.execute(select(*columns)):
        found[request].append((model, asked_ms, sample in labelled))
    made = [
        Progress(request, rows[0][0], rows[0][1], len(rows), sum(done for *_, done in rows))
        for request, rows in found.items()
    ]
    return sorted(made, key=lambda one: (-one.asked_ms, one.request))


def _stratum(coarse: Coarse, k: int, weight: float, available: int, drawn: int) -> Stratum:
    return Stratum(
        predicted=coarse.validation.names[coarse.predicted[k]],
        log_odds=coarse.band(k),
        weight=float(weight),
        available=int(available),
        drawn=int(drawn),
    )


def _candidates(
    tx: Connection, coarse: Coarse, model: str, since_ms: int, devices: Collection[str] | None
) -> dict[int, list[tuple[str, str, int]]]:
    """Digest, device and time of samples without a label by stratum, none that may show the part of the one before."""
    done = select(LABEL.c.item)
    asked = select(SAMPLE.c.sha256, SAMPLE.c.device, SAMPLE.c.at_ms, SAMPLE.c.cell).where(
        SAMPLE.c.model == model, SAMPLE.c.at_ms >= since_ms, SAMPLE.c.sha256.not_in(done)
    )
    found: dict[int, list[tuple[str, str, int]]] = defaultdict(list)
    last: dict[tuple[str, int], int] = {}
    for row in tx.execute(asked.order_by(SAMPLE.c.device, SAMPLE.c.at_ms, SAMPLE.c.sha256)):
        if devices is not None and row.device not in devices:
            continue
        cell = coarse.validation.fold_cell(row.cell)
        if cell is None:
            continue
        stratum = int(coarse.stratum[cell])
        before = last.get((row.device, stratum))
        if before is None or row.at_ms - before >= APART_MS:
            last[row.device, stratum] = row.at_ms
            found[stratum].append((row.sha256, row.device, row.at_ms))
    return found
