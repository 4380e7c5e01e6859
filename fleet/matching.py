"""Which alerts are meant: facts of an alert against a matcher of severity and patterns."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from device_agent.contract.alert import SEVERITIES, Alert, Severity
from device_agent.contract.errors import BadInput
from fleet.schema import DEVICE, MODEL

STEP = 500
FIELDS = ("site", "device", "device_type", "product", "model", "stream", "label")


class Facts(NamedTuple):
    """What a matcher asks of an alert: every value that a field has. `device_type` is the hardware that its devices
    say they are, `model` the id and the name, `label` the class that a stream is about."""

    severity: Severity
    site: tuple[str, ...]
    device: tuple[str, ...]
    device_type: tuple[str, ...]
    product: tuple[str, ...]
    model: tuple[str, ...]
    stream: tuple[str, ...]
    label: tuple[str, ...]


class Matcher(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Alerts of `severity` or worse of which every field that is named fits one of its patterns (`*`, `?`, `[..]`).

    >>> line = Matcher(severity="page", site=["hall-*"])
    >>> facts = Facts("critical", ("hall-2",), ("cam-1",), (), ("lid",), ("ab12",), ("low+",), ())
    >>> line.fits(facts), line.fits(facts._replace(severity="warn")), line.fits(facts._replace(site=("yard",)))
    (True, False, False)
    """

    severity: Severity = "info"
    site: list[str] = []
    device: list[str] = []
    device_type: list[str] = []
    product: list[str] = []
    model: list[str] = []
    stream: list[str] = []
    label: list[str] = []

    def fits(self, facts: Facts) -> bool:
        """Whether an alert is meant."""
        if SEVERITIES.index(facts.severity) < SEVERITIES.index(self.severity):
            return False
        asked = [(getattr(self, name), getattr(facts, name)) for name in FIELDS]
        return all(_fits(patterns, values) for patterns, values in asked if patterns)

    def __str__(self) -> str:
        named = [f"{name}={value}" for name in FIELDS for value in getattr(self, name)]
        return " ".join([*([f"severity>={self.severity}"] if self.severity != "info" else []), *named]) or "everything"


def parse_matcher(terms: tuple[str, ...], severity: Severity = "info") -> Matcher:
    """A matcher of terms like "site=hall-*"; a field that is named twice may be either.

    >>> str(parse_matcher(("site=hall-1", "site=hall-2", "stream=low*"), "page"))
    'severity>=page site=hall-1 site=hall-2 stream=low*'

    Raises:
        BadInput: a term without "=", an unknown field or an empty pattern.
    """
    fields: dict[str, list[str]] = {}
    for term in terms:
        name, equals, pattern = term.partition("=")
        if not equals or name not in FIELDS or not pattern or len(pattern) > 256:
            raise BadInput(f"match {term!r}: must read like site=hall-2 or stream=low*; fields are {', '.join(FIELDS)}")
        fields.setdefault(name, []).append(pattern)
    return Matcher(severity, **fields)


def read_facts(tx: Connection, alerts: list[Alert]) -> dict[str, Facts]:
    """Facts of alerts by their ids, with what the store knows of devices and models."""
    devices = sorted({device for alert in alerts for device in alert.devices})
    hardware: dict[str, str] = {}
    for start in range(0, len(devices), STEP):
        some = DEVICE.c.device.in_(devices[start : start + STEP])
        hardware.update((row.device, row.hardware or "") for row in tx.execute(
            select(DEVICE.c.device, DEVICE.c.hardware).where(some)
        ))  # fmt: skip
    names = {row.model: row.name for row in tx.execute(select(MODEL.c.model, MODEL.c.name))}
    return {alert.id: facts_of(alert, hardware, names) for alert in alerts}


def facts_of(alert: Alert, hardware: dict[str, str], names: dict[str, str]) -> Facts:
    """Facts of one alert. `hardware`: of devices, `names`: of models; both may lack some."""
    label = alert.stream.removesuffix("/runs").partition(":")[2]
    return Facts(
        severity=alert.severity,
        site=(alert.site,),
        device=tuple(alert.devices),
        device_type=tuple({hardware[device] for device in alert.devices if hardware.get(device)}),
        product=(alert.product,),
        model=(alert.model, *([names[alert.model]] if alert.model in names else [])),
        stream=(alert.stream,),
        label=(label,) if label else (),
    )


def _fits(patterns: list[str], values: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns for value in values)
