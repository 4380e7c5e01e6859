"""/metrics for Prometheus and /healthz for a supervisor."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version

from device_agent.local.http import Answer, LocalServer, Request
from device_agent.local.live import LiveState
from device_agent.local.metrics import CONTENT_TYPE, exposition
from device_agent.local.settings import MetricsSettings, parse_listen


def serve_metrics(
    settings: MetricsSettings,
    live: LiveState,
    *,
    event: Callable[[str, str], None],
    health: Callable[[], str] | None = None,
) -> LocalServer:
    """The metrics of `live`, listening from now on. `health()` is why the agent does not serve, "" if it does; by
    default `live.fault`.

    Raises:
        NotWritable: the address cannot be listened on.
    """
    ours, well = version("lineside"), health or live.fault

    def show_metrics(_request: Request) -> Answer:
        return Answer(exposition(live.view(), version=ours).encode(), CONTENT_TYPE)

    def show_health(_request: Request) -> Answer:
        why = " ".join(well().split())
        return Answer(f"{why or 'ok'}\n".encode(), status=HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK)

    listen = parse_listen(settings.listen)
    server = LocalServer(listen, {"/metrics": show_metrics, "/healthz": show_health}, settings.allow_host)
    if not listen.loopback:
        where = f"{settings.listen.rpartition(':')[0]}:{server.port}"
        event("metrics_exposed", f"the metrics listen on {where}, for the whole network")
    return server
