"""Webhooks over real HTTP: signed so that a receiver can tell, bounded in time, and without secrets in what is said."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading

import pytest

from device_agent.contract.credentials import Credentials
from device_agent.contract.errors import BadInput, TrustFailed
from fleet.routes import Item, NotTaken
from fleet.routes.message import write_digest, write_notice, write_test
from fleet.routes.settings import RouteSettings, Wiring
from fleet.routes.webhook import WebhookRoute, verify

SECRET = b"0123456789abcdef"
NOW_S = 1_760_000_000.0


def hook(url, *, secret=SECRET, clock_s=lambda: NOW_S, credentials=Credentials(), **options):  # noqa: B008
    settings = RouteSettings(name="mes", kind="webhook", **options)
    return WebhookRoute(Wiring(settings=settings, url=url, secret=secret, credentials=credentials), clock_s=clock_s)


@pytest.fixture
def notice(alert_of):
    return write_notice(Item("opened", alert_of()), 1_760_000_000_000)


def test_what_comes_is_signed_and_can_be_verified_once(receiver, notice):
    hook(receiver.url).take(notice)
    ((path, headers, body),) = receiver.requests
    assert path == "/alerts-in" and json.loads(body)["items"][0]["alert"]["id"] == "a1"
    seen: set[str] = set()
    assert verify(SECRET, headers, body, NOW_S, seen=seen) == notice.id
    with pytest.raises(TrustFailed, match="came before"):
        verify(SECRET, headers, body, NOW_S, seen=seen)
    for other in ((b"another secret!!", headers, body, NOW_S), (SECRET, headers, body + b" ", NOW_S),
                  (SECRET, headers | {"X-Lineside-Timestamp": str(int(NOW_S) + 1)}, body, NOW_S),
                  (SECRET, {}, body, NOW_S)):  # fmt: skip
        with pytest.raises(TrustFailed, match="does not fit"):
            verify(*other)
    for now_s in (NOW_S + 301, NOW_S - 301):
        with pytest.raises(TrustFailed, match="away from now"):
            verify(SECRET, headers, body, now_s)


@pytest.mark.parametrize(("status", "refused"), [(400, True), (404, False), (422, True), (429, False), (500, False)])
def test_a_status_that_is_no_2xx_is_not_taken(receiver, notice, status, refused):
    receiver.answer = lambda *_: (status, {"Retry-After": "120"})
    with pytest.raises(NotTaken, match=f"answers with status {status}") as found:
        hook(receiver.url).take(notice)
    assert found.value.refused == refused and found.value.wait_s == 120
    assert "alerts-in" not in str(found.value), "a path may hold a token"


def test_a_redirect_is_not_followed(receiver, notice):
    receiver.answer = lambda *_: (302, {"Location": receiver.url})
    with pytest.raises(NotTaken, match="status 302"):
        hook(receiver.url).take(notice)
    assert len(receiver.requests) == 1


def test_a_slow_receiver_is_left_after_the_timeout(receiver, notice):
    wait = threading.Event()
    receiver.answer = lambda *_: (wait.wait(20), (200, {}))[1]
    with pytest.raises(NotTaken, match="does not answer in time"):
        hook(receiver.url, timeout_s=0.2).take(notice)
    wait.set()


def test_nobody_there_and_no_http_are_said_in_words(notice, free_port):
    with pytest.raises(NotTaken, match="refused"):
        hook(f"http://127.0.0.1:{free_port}/secret-path").take(notice)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            connection.recv(100)
            connection.sendall(b"SSH-2.0-hello\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(NotTaken) as found:
            hook(f"http://127.0.0.1:{server.getsockname()[1]}/secret-path").take(notice)
    assert "secret-path" not in str(found.value) and len(str(found.value).splitlines()) == 1


def test_a_certificate_that_nobody_trusts_is_refused_and_one_that_is_named_is_taken(receiver, notice, tmp_path):
    pem, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = f"https://localhost:{receiver.port}/"
    with pytest.raises(NotTaken, match="its certificate is not trusted: self-signed"):
        hook(url).take(notice)
    hook(url, credentials=Credentials(ca=pem)).take(notice)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://user:pass@host/", "http://ho st/", "http://h:99999/", "nothing", ""]
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(BadInput, match=r"^url: must read like https://") as found:
        hook(url)
    assert "pass" not in str(found.value).replace("password", "")


def test_a_short_secret_is_refused():
    with pytest.raises(BadInput, match="secret: 5 bytes are too few"):
        hook("http://localhost", secret=b"short")


def test_a_digest_of_thousands_is_bounded_and_says_how_many_there_are(receiver, alert_of):
    items = [Item("opened", alert_of(id=f"a{k}")) for k in range(10_000)]
    hook(receiver.url).take(write_digest(items, 0))
    sent = json.loads(receiver.requests[0][2])
    assert sent["counts"] == {"page": 10_000} and len(sent["items"]) == 500


def test_a_test_message_is_told_as_one(receiver):
    hook(receiver.url).take(write_test("mes", 0))
    assert json.loads(receiver.requests[0][2])["kind"] == "test"
