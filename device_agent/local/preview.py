"""The preview: who has the token sees the latest frame, the answer to it, and how the agent does."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

from device_agent.local.http import Answer, LocalServer, Request
from device_agent.local.live import LiveState
from device_agent.local.page import page, parts, policy
from device_agent.local.picture import Pictures
from device_agent.local.settings import PreviewSettings, parse_listen
from device_agent.local.token import open_token, same, session_of

COOKIE = "lineside_preview"
SAID_S = 60.0
Event = Callable[[str, str], None]
_HTML = "text/html; charset=utf-8"


def serve_preview(
    settings: PreviewSettings, lives: Mapping[str, LiveState], *, state: Path, event: Event
) -> LocalServer:
    """The preview of cameras by their names, listening from now on; where and for whom is said by events. Without
    `?camera=NAME` the first one is shown.

    Raises:
        BadInput, NotWritable: the token cannot be used or made; the address cannot be listened on.
    """
    token, path = open_token(state)
    first = next(iter(lives))
    door = _Door(token, lives[first], event)
    pictures = {device: Pictures(live.shot) for device, live in lives.items()}

    def of_camera(show: Callable[[str], Answer]) -> Callable[[Request], Answer]:
        def shown(request: Request) -> Answer:
            device = request.query.get("camera", first)
            return show(device) if device in lives else Answer(b"no such camera\n", status=HTTPStatus.NOT_FOUND)

        return shown

    def show_page(device: str) -> Answer:
        nonce = secrets.token_urlsafe(16)
        content = page(lives[device].view(), pictures[device].take(), device, list(lives), nonce)
        return Answer(content, _HTML, headers={"Content-Security-Policy": policy(nonce)})

    def show_parts(device: str) -> Answer:
        return Answer(parts(lives[device].view(), pictures[device].take()).encode(), _HTML)

    def show_frame(device: str) -> Answer:
        content = pictures[device].png()
        return Answer(content, "image/png") if content else Answer(b"no frame yet\n", status=HTTPStatus.NOT_FOUND)

    routes = {"/": of_camera(show_page), "/parts": of_camera(show_parts), "/frame.png": of_camera(show_frame)}
    listen = parse_listen(settings.listen)
    server = LocalServer(listen, {path: door.guard(route) for path, route in routes.items()}, settings.allow_host)
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    event("preview", f"http://{host}:{server.port}/?token=, followed by what is in {path.absolute()}")
    if not listen.loopback:
        event("preview_exposed", f"the preview listens on {host}:{server.port} without TLS, for the whole network")
    return server


class _Door:
    """Lets in who brings the token: once in the address, which a cookie replaces at once, or as a bearer."""

    def __init__(self, token: str, live: LiveState, event: Event) -> None:
        self._token, self._session, self._live, self._event = token, session_of(token), live, event
        self._lock, self._said_at = threading.Lock(), -SAID_S

    def guard(self, route: Callable[[Request], Answer]) -> Callable[[Request], Answer]:
        """The route, for who may see it."""

        def guarded(request: Request) -> Answer:
            given = request.query.get("token")
            if given is not None:
                return self._enter() if same(given, self._token) else self._refuse(request)
            return route(request) if self._knows(request) else self._refuse(request)

        return guarded

    def _enter(self) -> Answer:
        """Not a redirect: after one, a browser that came from elsewhere would hold back a strict cookie."""
        cookie = f"{COOKIE}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        return Answer(b'<meta http-equiv="refresh" content="0;url=/">', _HTML, headers={"Set-Cookie": cookie})

    def _knows(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return same(bearer.strip(), self._token)
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same(cookie.value, self._session)

    def _refuse(self, request: Request) -> Answer:
        """Without a right token; one event a minute at most."""
        self._live.count("preview_refused")
        now = time.monotonic()
        with self._lock:
            say = now - self._said_at >= SAID_S
            self._said_at = now if say else self._said_at
        if say:
            self._event("preview_refused", f"a request from {request.peer} came without the right token")
        return Answer(
            b"the token is needed: /?token=, followed by what is in preview.token of the state folder\n",
            status=HTTPStatus.UNAUTHORIZED,
            headers={"WWW-Authenticate": 'Bearer realm="lineside"'},
        )
