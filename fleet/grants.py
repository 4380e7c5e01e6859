"""What people asked for, done: each worker follows a request for its own devices, the leader for the whole fleet."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

from fleet.alert_store import find_alerts
from fleet.alerts import OF_CONDITION, Change
from fleet.models import read_models
from fleet.requests import Request, settle

if TYPE_CHECKING:
    from fleet.ingest import Ingest


def grant(ingest: Ingest, tx: Connection, request: Request, now_ms: int) -> list[Change]:
    """Follow one request, in the transaction that says that it was followed; what it changes of alerts, where this is
    the leader."""
    do = {"devices": _places, "models": _models, "acknowledge": _acknowledge, "changeover": _changeover}
    changes, outcome = do[request.action](ingest, tx, request, now_ms) if request.action in do else ([], "done")
    if ingest.leases.leads and not request.done:
        settle(tx, request, outcome, now_ms)
        return changes
    return []


def _places(ingest: Ingest, tx: Connection, _request: Request, now_ms: int) -> tuple[list[Change], str]:
    places = {device.device: device.group for device in ingest.registry.devices.values()}
    ingest.registry.refresh_places(tx)
    moved = {name for name, group in places.items() if ingest.registry.get(name).group != group}
    ingest.everything = True
    return ingest.alerts.leave(moved, "moved to another place", now_ms), "done"


def _models(ingest: Ingest, tx: Connection, _request: Request, _now_ms: int) -> tuple[list[Change], str]:
    for model in read_models(tx).values():
        if model != ingest.fleet.models.get(model.model):
            ingest.own.forget_model(tx, model.model)
            ingest.must_store(ingest.fleet.renew(model))
    return [], "done"


def _acknowledge(ingest: Ingest, tx: Connection, request: Request, now_ms: int) -> tuple[list[Change], str]:
    alert = ingest.alerts.open.get(request.target)
    if alert is None and not ingest.leases.leads:
        alert = find_alerts(tx, [request.target]).get(request.target)
    if alert is None:
        return [], "no such open alert"
    reason = f"acknowledged (alert {alert.id})"
    if alert.stream in OF_CONDITION:
        return ingest.alerts.acknowledge(alert.id, reason, now_ms), "done"
    return _calm(ingest, tx, request, set(alert.devices), reason, now_ms), "done"


def _changeover(ingest: Ingest, tx: Connection, request: Request, now_ms: int) -> tuple[list[Change], str]:
    names = {d.device for d in ingest.registry.devices.values() if request.target in (d.device, d.site)}
    for name in names:
        if ingest.marks.waits(name, request.id):
            ingest.registry.forget_quality(name)
    changes = _calm(ingest, tx, request, names, "change-over", now_ms, anew=True)
    return changes, f"{len(names)} devices start from nothing"


def _calm(
    ingest: Ingest,
    tx: Connection,
    request: Request,
    devices: Collection[str],
    reason: str,
    now_ms: int,
    *,
    anew: bool = False,
) -> list[Change]:
    """Start devices from nothing and close their alerts; those of others stay. `anew`: their own normal is gone."""
    mine = {device for device in devices if ingest.marks.waits(device, request.id)}
    for device in mine:
        ingest.fleet.forget(device)
    ingest.must_store(mine)
    ingest.own.restart(tx, mine, now_ms, learnt=anew)
    return ingest.alerts.calm(devices, reason, now_ms)
