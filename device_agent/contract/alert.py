"""Alert and Trigger: what the monitor tells people, and what it asks of the workstation. JSON documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.codec import read_document
from device_agent.contract.errors import BadInput

TRIGGER_SCHEMA = "1.1"
SEVERITIES = ("info", "warn", "page", "critical")
Severity = Literal["info", "warn", "page", "critical"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One finding. `scope` is a device id, or a site for scope_kind "site"; `site` and `product` are those at which it
    was opened. `ratio` is rate over baseline rate with
    its 95 % interval, `log_e` the natural log of the e-value,
    `paged_ms` when it became a page or worse, None while it is none. Times are wall-clock ms since 1970."""

    schema: str = "1.0"
    id: str
    severity: Severity
    scope_kind: Literal["device", "site"]
    scope: str
    site: str
    model: str
    stream: str
    opened_ms: int
    onset_ms: int
    updated_ms: int
    paged_ms: int | None = None
    text: str
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    log_e: float | None = None
    independent_frames: float | None = None
    cause: str = ""
    devices: list[str] = []
    closed_ms: int | None = None
    closed_reason: str = ""
    inhibited_by: str = ""
    product: str = ""


TriggerState = Literal["open", "labelling", "training", "shadow", "canary", "done", "rejected", "rolled_back"]
TriggerId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that speaks for a retraining: `value` with its 95 % interval `low` to `high`, measured on `n` parts,
    where `expected` was. `kind` says where it comes from; a statistic is what no person and no known part has
    confirmed. Times are wall-clock ms since 1970."""

    kind: Literal["labelled", "golden", "statistic", "business"]
    figure: str
    value: float
    low: float | None = None
    high: float | None = None
    expected: float | None = None
    n: int = 0
    from_ms: int = 0
    to_ms: int = 0
    text: str = ""


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A request to retrain, idempotent by id; never made from a statistic alone.

    Since schema 1.1: `bundle_sha256` of the bundle that the model came in; `created_by` a person; `rule` the name of a
    business rule; the window of the evidence, wall-clock ms; `devices` concerned; `samples` the folder of labelled
    samples; `suggested` options of lineside train, which nothing follows by itself; `signature` 128 hexadecimal digits
    of Ed25519, see `signed_part`.
    """

    schema: str = "1.0"
    id: TriggerId
    model: str
    reason: Literal["labels", "golden", "person", "rule"]
    created_ms: int
    alerts: list[str] = []
    text: str = ""
    state: TriggerState = "open"
    bundle_sha256: str = ""
    created_by: str = ""
    rule: str = ""
    from_ms: int = 0
    to_ms: int = 0
    devices: list[str] = []
    evidence: list[Evidence] = []
    samples: str = ""
    suggested: dict[str, str | int | float] = {}
    signature: str = ""


class TriggerResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a training that a trigger asked for came to: trigger-result.json of its run. `metrics` in [0, 1], measured
    on the validation images; `trigger` is the id, `model` that of the trigger."""

    schema: str = "1.0"
    trigger: TriggerId
    model: str
    state: Literal["trained", "failed"]
    run: str
    finished_ms: int
    data_sha256: str = ""
    recipe_sha256: str = ""
    metrics: dict[str, float] = {}
    text: str = ""


def read_trigger(text: bytes, *, where: str) -> Trigger:
    """The trigger in a JSON text.

    Raises:
        UnknownSchema, BadInput: of another major schema, or none.
    """
    return read_document(text, Trigger, where=where)


def signed_part(text: bytes, *, where: str = "trigger") -> bytes:
    """What a signature of a trigger's JSON text covers: every field but `signature`, those of newer minors too, in one
    order.

    >>> signed_part(b'{"signature": "00", "id": "t-1", "schema": "1.0"}')
    b'lineside/1 trigger {"id":"t-1","schema":"1.0"}'

    Raises:
        BadInput: not a JSON object.
    """
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{where}: no JSON object: {str(error).lower()}") from None
    document.pop("signature", None)
    return b"lineside/1 trigger " + msgspec.json.encode(document, order="sorted")
