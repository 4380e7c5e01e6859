"""Alerts for people by mail and chat: any service that apprise knows, one URL a route."""

from __future__ import annotations

import logging
import re
from typing import Any

from device_agent.contract.errors import BadInput
from device_agent.contract.optional import require
from fleet.routes import Notice, NotTaken
from fleet.routes.http import hush
from fleet.routes.settings import Wiring

_MARKS = str.maketrans("<>[]*_~`|@\\#&", "＜＞［］＊＿～｀｜＠＼＃＆")
_STATUS_LINE = re.compile(r"[A-Za-z ,.:']{1,100}error=\d{3}\.?")
_CODE = re.compile(r"\berror=(\d{3})\b")
TYPES = {"critical": "failure", "page": "failure", "warn": "warning", "info": "info"}


class AppriseRoute:
    """Sends title and text of a notice. The URL, which holds a secret, is neither printed nor logged.

    Raises:
        BadInput: no URL of a service that apprise knows, or several. MissingPackage: apprise is not installed.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._apprise = require("apprise", extra="fleet")
        hush("urllib3")
        logger = logging.getLogger("apprise")
        logger.setLevel(logging.WARNING)
        logger.addFilter(_harmless)
        self._timeout_s = wiring.settings.timeout_s
        self._services: Any = self._apprise.Apprise()
        scheme = wiring.url.partition("://")[0]
        shown = scheme if re.fullmatch(r"[a-z0-9]{1,20}", scheme) else "this"
        if not self._services.add(wiring.url) or len(self._services) != 1:
            raise BadInput(f"url: {shown}://... is not one URL of a service that apprise knows")
        self.name = f"{shown}://..."

    def take(self, notice: Notice) -> None:
        """Hand it to the service.

        Raises:
            NotTaken: the service does not have it.
        """
        worst = next((severity for severity in TYPES if notice.counts.get(severity)), "info")
        given = {"title": plain(notice.title), "body": plain(notice.text), "notify_type": TYPES[worst]}
        if notice.items and all(item.what == "closed" for item in notice.items):
            given["notify_type"] = "success"
        try:
            done = self._services.notify(**given, body_format="text", interpret_escapes=False)
        except Exception as error:  # noqa: BLE001 - a plug-in of a service may raise anything
            raise NotTaken(f"{self.name}: {type(error).__name__}") from None
        if not done:
            raise NotTaken(f"{self.name} did not take it{_code(done)}")

    def close(self) -> None:
        """Nothing to hang up: each notice has a connection of its own."""


def plain(text: str) -> str:
    """A text in which nothing can be markup, a mention or a link, whatever a chat makes of text: marks stand as their
    full-width forms.

    >>> plain("hall_2 <b>@all</b> [x](http://x.example)")
    'hall＿2 ＜b＞＠all＜/b＞ ［x］(http:／／x.example)'
    """
    return text.translate(_MARKS).replace("://", ":／／")


def _harmless(record: logging.LogRecord) -> bool:
    """Whether a line of apprise may be logged: one that has a status and nothing that could be of a URL."""
    return bool(_STATUS_LINE.fullmatch(record.getMessage()))


def _code(done: Any) -> str:
    """The status that the service answered with, where apprise tells; nothing else of its words, as they may hold the
    URL."""
    logs = getattr(done, "logs", None)
    said = " ".join(str(getattr(entry, "message", "")) for entry in logs()) if callable(logs) else ""
    found = _CODE.search(said)
    return f" (status {found[1]})" if found else ""
