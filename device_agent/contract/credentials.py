"""What a device or the monitor shows a broker, and whom it trusts: certificates and a key in PEM files."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

from device_agent.contract.errors import BadInput, NotFound
from device_agent.contract.reading import read_plain

_MOST = 1 << 20
_NAMES = {"ca": "--ca", "cert": "--cert", "key": "--key"}


class Credentials(NamedTuple):
    """PEM files: authorities to trust in the place of the system's; an own certificate and its key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """For a client, TLS 1.2 or later; read anew at each call, so that a renewed certificate is taken up.

        Raises:
            NotFound, BadInput: a file that is not there or is not PEM, a key that others may read or that belongs to
                another certificate, one of the two without the other.
        """
        if (self.cert is None) != (self.key is None):
            raise BadInput("--cert and --key belong together, got one of them")
        for name, path in zip(_NAMES.values(), self, strict=True):
            if path is not None:
                look_at(name, path)
        context = ssl.create_default_context()
        if self.ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:
                context.load_verify_locations(self.ca)
            except ssl.SSLError:
                raise BadInput(f"--ca {self.ca}: holds no certificate in PEM") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None and self.key is not None:
            _load_pair(context, self.cert, self.key)
        return context


def look_at(name: str, path: Path) -> bytes:
    """Content of a file of credentials, called `name` in what is said of it.

    Raises:
        NotFound, BadInput: it is not there, is no plain file, or is over 1 MiB.
    """
    try:
        return read_plain(path, _MOST)
    except FileNotFoundError:
        raise NotFound(f"{name} {path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{name} {path}: cannot be read: {(error.strerror or str(error)).lower()}") from error


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    mode = key.stat().st_mode & 0o077
    if str(key.parent) == os.environ.get("CREDENTIALS_DIRECTORY"):
        mode &= ~0o040  # systemd lets its service in by an access list, whose mask the group's bits show
    if mode:
        raise BadInput(f"--key {key}: other users may read or write it; chmod 600 {key}")
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadInput(f"--key {key}: is not the key of {cert}") from None
        raise BadInput(
            f"--cert {cert} and --key {key}: a certificate and its unencrypted key in PEM are wanted"
        ) from None
