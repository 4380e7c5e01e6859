"""Whom this device's own certificate names, and how long it holds."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.credentials import Credentials, look_at
from device_agent.contract.errors import BadInput

AHEAD = datetime.timedelta(days=30)


class Certificate(NamedTuple):
    """Whom a certificate names (its common name), and from when to when it holds, in UTC."""

    name: str
    begins: datetime.datetime
    ends: datetime.datetime


def read_certificate(path: Path) -> Certificate:
    """The first certificate of a PEM file.

    Raises:
        NotFound, BadInput: there is none.
    """
    from cryptography import x509  # here: it takes its time to import, and most runs have no certificate

    content = look_at("certificate", path)
    try:
        found = x509.load_pem_x509_certificate(content)
        names = found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    except ValueError:
        raise BadInput(f"{path}: holds no certificate in PEM") from None
    return Certificate(str(names[0].value) if names else "", found.not_valid_before_utc, found.not_valid_after_utc)


def check_identity(credentials: Credentials, name: str) -> None:
    """Refuse a certificate that names another device.

    Raises:
        NotFound, BadInput: as for `read_certificate`; or it names another.
    """
    if credentials.cert is not None and (found := read_certificate(credentials.cert)).name != name:
        raise BadInput(f"--cert {credentials.cert}: is the certificate of {found.name!r}, this device is {name!r}")


def expiry(credentials: Credentials, now: datetime.datetime) -> str:
    """Why the own certificate does not hold now, for a person; empty if it does, or if there is none."""
    if credentials.cert is None:
        return ""
    found = read_certificate(credentials.cert)
    if now > found.ends:
        return f"the certificate of {found.name!r} expired on {found.ends:%Y-%m-%d}; issue another one"
    if now < found.begins:
        return f"the certificate of {found.name!r} holds from {found.begins:%Y-%m-%d}; the clock says {now:%Y-%m-%d}"
    return ""


def ending(credentials: Credentials, now: datetime.datetime) -> str:
    """As `expiry`, and within `AHEAD` of the end that it is near."""
    if credentials.cert is None or (fault := expiry(credentials, now)):
        return "" if credentials.cert is None else fault
    found = read_certificate(credentials.cert)
    left = found.ends - now
    return f"the certificate of {found.name!r} expires in {left.days} days; issue another one" if left < AHEAD else ""
