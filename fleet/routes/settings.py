"""The file of routes: TOML, one table [[route]] each. Secrets stand in the environment or in files of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from device_agent.contract.alert import Severity
from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, LinesideError, NotFound
from device_agent.contract.reading import read_plain
from fleet.matching import FIELDS, Matcher
from fleet.routes import KINDS, Route

MOST = 1 << 18
MOST_SECRET = 1 << 14
_AT = re.compile(r" - at `\$\.route\[(\d+)\]\.?([^`]*)`")
_Minutes = Annotated[float, Meta(ge=0, le=10_080)]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}\Z")]


class RouteSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One table. `url` may stand in `url_env` or `url_file` instead, and has to for apprise; `secret` signs webhooks
    and is the bearer token of Alertmanager. `after_min`: only alerts of which nobody has taken note for so long;
    `repeat_min`: again until somebody does; `resend_min`: again while open (default 2 for Alertmanager and MQTT).
    `most_a_minute` messages at most; what is more comes as a digest, as does more than `digest_over` at once."""

    name: _Name
    kind: str
    url: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    url_env: str | None = None
    url_file: str | None = None
    secret_env: str | None = None
    secret_file: str | None = None
    ca: str | None = None
    severity: Severity = "page"
    match: Matcher = Matcher()
    after_min: _Minutes = 0
    repeat_min: _Minutes = 0
    resend_min: _Minutes | None = None
    timeout_s: Annotated[float, Meta(ge=0.1, le=120)] = 10.0
    most_a_minute: Annotated[int, Meta(ge=1, le=6000)] = 12
    digest_over: Annotated[int, Meta(ge=1, le=1000)] = 5
    link: Annotated[str, Meta(max_length=1000)] = ""

    @property
    def machine(self) -> bool:
        """Whether a program listens, which is told of every change."""
        return self.kind != "apprise"

    @property
    def after_ms(self) -> int:
        """How long nobody may have taken note, ms."""
        return round(self.after_min * 60_000)

    @property
    def repeat_ms(self) -> int:
        """Between reminders, ms; 0: none."""
        return round(self.repeat_min * 60_000)

    @property
    def resend_ms(self) -> int:
        """Between repetitions of what is open, ms; 0: none."""
        default = 2.0 if self.kind in ("alertmanager", "mqtt") else 0.0
        return round((default if self.resend_min is None else self.resend_min) * 60_000)

    @property
    def matcher(self) -> Matcher:
        """Which alerts it wants, its severity included."""
        return msgspec.structs.replace(self.match, severity=self.severity)


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of route is made from: settings, and the secrets, which appear nowhere else."""

    settings: RouteSettings
    url: str
    secret: bytes = b""
    credentials: Credentials = Credentials()

    def __repr__(self) -> str:
        return f"<Wiring of {self.settings.name}>"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    route: Annotated[list[RouteSettings], Meta(max_length=100)] = []


def read_routes(path: Path) -> list[RouteSettings]:
    """The routes of a file.

    Raises:
        NotFound: no such file.
        BadInput: not TOML, an unknown field, a value that does not serve, a name twice; names file, route and field.
    """
    try:
        raw = msgspec.toml.decode(read_plain(path, MOST))
    except FileNotFoundError:
        raise NotFound(f"{path}: no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: is not TOML: {str(error).lower()}") from None
    try:
        found = msgspec.convert(raw, _File).route
    except msgspec.ValidationError as error:
        raise BadInput(f"{path}: {_explained(str(error), raw)}") from None
    if not found:
        raise BadInput(f"{path}: has no table [[route]]; the least is name, kind and url")
    for number, settings in enumerate(found, start=1):
        where = f"{path}: route {number} ({settings.name})"
        if settings.name in [other.name for other in found[: number - 1]]:
            raise BadInput(f"{where}: name stands there twice")
        if settings.kind not in KINDS.names():
            raise BadInput(f"{where}: kind = {settings.kind!r}: must be one of {', '.join(KINDS.names())}")
        _check_sources(where, settings)
    return found


def make_route(settings: RouteSettings, folder: Path, environment: Mapping[str, str] = os.environ) -> Route:
    """A route that is ready to take notices. `folder`: where names of files in the settings begin.

    Raises:
        BadInput, NotFound, MissingPackage: a secret that is not there or that others may read, or a URL that is none;
            route and field are named, the secret is not.
    """
    where = f"route {settings.name}"
    try:
        wiring = Wiring(
            settings=settings,
            url=settings.url or _secret(where, "url", settings.url_env, settings.url_file, folder, environment),
            secret=_secret(where, "secret", settings.secret_env, settings.secret_file, folder, environment).encode(),
            credentials=Credentials(ca=folder / settings.ca if settings.ca else None),
        )
        route: Route = KINDS.load(settings.kind)(wiring)
    except LinesideError as error:
        text = str(error)
        raise type(error)(text if text.startswith(where) else f"{where}: {text}") from None
    return route


def _check_sources(where: str, settings: RouteSettings) -> None:
    given = [name for name in ("url", "url_env", "url_file") if getattr(settings, name) is not None]
    if len(given) > 1 or (not given and settings.kind != "memory"):
        raise BadInput(f"{where}: url: needs one of url, url_env and url_file, got {', '.join(given) or 'none'}")
    if settings.secret_env is not None and settings.secret_file is not None:
        raise BadInput(f"{where}: secret: needs one of secret_env and secret_file, got both")
    secret = settings.kind == "apprise" or "@" in (settings.url or "").partition("://")[2].partition("/")[0]
    if settings.url is not None and secret:
        raise BadInput(f"{where}: url: holds a secret; put it into the environment (url_env) or a file (url_file)")


def _secret(
    where: str, field: str, variable: str | None, name: str | None, folder: Path, environment: Mapping[str, str]
) -> str:
    """What stands in a variable or a file, without white space around it; empty where neither is named."""
    if variable is not None:
        value = environment.get(variable, "").strip()
        if not value:
            raise BadInput(f"{where}: {field}_env: the environment has no {variable}")
        return value
    if name is None:
        return ""
    path = folder / name
    try:
        content = read_plain(path, MOST_SECRET).decode().strip()
        others = path.stat().st_mode & 0o077
    except FileNotFoundError:
        raise NotFound(f"{where}: {field}_file {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        said = (getattr(error, "strerror", None) or "is no text").lower()
        raise BadInput(f"{where}: {field}_file {path}: cannot be read: {said}") from None
    if others:
        raise BadInput(f"{where}: {field}_file {path}: other users may read or write it; chmod 600 {path}")
    if not content:
        raise BadInput(f"{where}: {field}_file {path}: is empty")
    return content


def _explained(said: str, raw: dict[str, Any]) -> str:
    """What is wrong with which field of which route; values are not repeated, they may be secrets."""
    found = _AT.search(said)
    what = said[: said.index(" - at `")] if " - at `" in said else said
    if "unknown field" in said and found is None:
        return f"{what.lower()}; there is [[route]] only"
    if found is None:
        return f"route: must be tables [[route]]: {what.lower()}"
    number, field = int(found[1]), found[2]
    table = raw["route"][number] if isinstance(raw.get("route"), list) else {}
    name = table.get("name") if isinstance(table, dict) else None
    named = f" ({name})" if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) else ""
    where = f"route {number + 1}{named}{': ' + field if field else ''}"
    if "unknown field" in said:
        known = (*FIELDS, "severity") if field.startswith("match") else RouteSettings.__struct_fields__
        return f"{where}: no field {said.split('`')[1]!r}; known are {', '.join(known)}"
    return f"{where}: {what.replace('`', '').lower()}"
