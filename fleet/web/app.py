"""The web application: JSON for programs, pages for people."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Collection
from typing import Annotated

import msgspec
import uvicorn
from fastapi import FastAPI, Query, Response
from sqlalchemy import Engine

from fleet.alerts import read_alerts
from fleet.history import read_history
from fleet.overview import Asked
from fleet.status import read_status
from fleet.store import open_store
from fleet.web.hosts import OwnHosts

JSON = "application/json"
MOST_ALERTS = 1_000


def make_app(engine: Engine, hosts: Collection[str] = ()) -> FastAPI:
    """The application over a store; `hosts` are names under which browsers may ask for it, see `OwnHosts`."""
    os.environ.setdefault("NICEGUI_STORAGE_PATH", tempfile.gettempdir() + "/lineside-fleet-page")
    from nicegui import core, ui

    from fleet.web.pages import add_pages

    app = FastAPI(title="lineside fleet", docs_url=None, redoc_url=None)
    app.add_middleware(OwnHosts, names=hosts)
    core.sio.eio.cors_allowed_origins = None  # the page's own origin
    add_interface(app, engine)
    add_pages(engine)
    ui.run_with(app, title="lineside fleet", dark=None, show_welcome_message=False)
    return app


def make_server(store: str, hosts: Collection[str] = ()) -> uvicorn.Server:
    """A server of the application; run it with the sockets it shall listen on."""
    app = make_app(open_store(store), hosts)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws_max_size=1 << 20, timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)


def add_interface(app: FastAPI, engine: Engine) -> None:
    """The JSON paths, each from the Struct that the command of the same name prints."""

    @app.get("/healthz")
    def health() -> dict[str, str]:
        with engine.connect() as tx:
            read_alerts(tx)
        return {"status": "ok"}

    @app.get("/api/status")
    def status(
        limit: Annotated[int | None, Query(ge=0)] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        search: str = "",
        site: str = "",
    ) -> Response:
        asked = Asked(search=search, site=site, limit=limit, offset=offset)
        with engine.connect() as tx:
            return Response(msgspec.json.encode(read_status(tx, clock_ms(), asked)), media_type=JSON)

    @app.get("/api/alerts")
    def alerts(all: bool = False, limit: Annotated[int, Query(ge=0, le=MOST_ALERTS)] = MOST_ALERTS) -> Response:
        with engine.connect() as tx:
            return Response(msgspec.json.encode(read_alerts(tx, closed=all, limit=limit)), media_type=JSON)

    @app.get("/api/devices/{device}")
    def history(device: str) -> Response:
        with engine.connect() as tx:
            found = read_history(tx, device)
        if found is None:
            return Response(msgspec.json.encode({"error": f"no device {device!r}"}), 404, media_type=JSON)
        return Response(msgspec.json.encode(found), media_type=JSON)


def clock_ms() -> int:
    """Wall clock in ms."""
    return time.time_ns() // 1_000_000
