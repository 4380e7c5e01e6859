"""What may be configured from afar."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device_agent.contract.errors import BadInput

_EXPECTED = {"interval": "seconds from 0.1 to 3600", "on_drift": '"report" or "safe"'}


class RemoteSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A field that is left out stays as the device's own configuration says: seconds a report, and what is done about
    drift, see `drift.BreakerSettings`."""

    interval: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    on_drift: Literal["report", "safe"] | None = None


def read_remote(text: str) -> RemoteSettings:
    """The settings in a JSON text.

    >>> read_remote('{"interval": 30}').interval
    30.0

    Raises:
        BadInput: not JSON, a field that is not known or not what it has to be, with what came.
    """
    try:
        raw = msgspec.json.decode(text)
        return msgspec.convert(raw, RemoteSettings)
    except msgspec.ValidationError as error:
        said = str(error)
        if "unknown field" in said:
            known = ", ".join(RemoteSettings.__struct_fields__)
            raise BadInput(f"no field {said.split('`')[1]!r}; known are {known}") from None
        name = said.partition("`$.")[2].rstrip("`")
        if name not in _EXPECTED:
            raise BadInput(f"must be a table of {', '.join(RemoteSettings.__struct_fields__)}") from None
        raise BadInput(f"{name} = {raw.get(name)!r}: must be {_EXPECTED[name]}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"is not JSON: {str(error).lower()[:120]}") from None
