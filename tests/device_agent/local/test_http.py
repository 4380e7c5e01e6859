"""The small server holds against whoever asks too much, too slowly, or in somebody else's name."""

from __future__ import annotations

import socket
import threading

import pytest

from device_agent.contract.errors import NotWritable
from device_agent.local import http
from device_agent.local.http import Answer, LocalServer
from device_agent.local.settings import Listen

ANY = Listen("127.0.0.1", 0)


@pytest.fixture
def server():
    found = LocalServer(ANY, {"/": lambda _request: Answer(b"hello\n")}, hosts=["press-1.plant"])
    yield found
    found.close()


def test_a_path_is_answered_with_headers_that_forbid_the_rest(server, get):
    status, headers, content = get(server, "/?a=1")
    assert (status, content) == (200, b"hello\n")
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["connection"] == "close" and "python" not in headers["server"].lower()


@pytest.mark.parametrize("path", ["/x", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/.", "/hello/", "/\\etc"])
def test_there_are_no_other_paths(server, get, path):
    assert get(server, path)[0] == 404


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_only_get_is_taken(server, ask, method):
    answer = ask(server, f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert b" 405 " in answer.splitlines()[0] and b"\r\nAllow: GET\r\n" in answer


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:80", "PRESS-1.plant.", socket.gethostname()])
def test_own_names_are_answered(server, get, host):
    assert get(server, "/", Host=host)[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "x@127.0.0.1"])
def test_a_name_that_was_made_to_lead_here_reads_nothing(server, get, host):
    status, _, content = get(server, "/", Host=host)
    assert status == 421 and b"hello" not in content


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"])
def test_exactly_one_host_is_to_be_named(server, ask, hosts):
    assert b" 400 " in ask(server, b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").splitlines()[0]


@pytest.mark.parametrize("header", ["Content-Length: 5", "Transfer-Encoding: chunked", "Content-Length: -1"])
def test_no_body_is_taken(server, ask, header):
    answer = ask(server, f"GET / HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\nhello".encode())
    assert b" 413 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 2_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
        b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?" + b"&".join(b"a%d=1" % k for k in range(200)) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(256)) * 4,
    ],
)
def test_what_is_no_request_costs_nothing(server, ask, get, monkeypatch, request_):
    monkeypatch.setattr(http, "MOST_S", 0.3)
    answer = ask(server, request_)
    assert b"hello" not in answer and b"Traceback" not in answer
    assert get(server, "/")[0] == 200


def test_a_request_that_trickles_in_is_cut(server, get, monkeypatch):
    monkeypatch.setattr(http, "MOST_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as slow:
        slow.sendall(b"GET / HT")
        ended = threading.Event()

        def trickle():
            try:
                while not ended.wait(0.05):
                    slow.send(b"T")
            except OSError:
                return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            while slow.recv(100):
                pass
        except ConnectionError:
            pass
        ended.set()
        thread.join()
    assert get(server, "/")[0] == 200


def test_one_connection_too_many_is_told_so_and_room_comes_back(server, get, ask, eventually):
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(http.MOST_CONNECTIONS)]
    try:
        eventually(lambda: b" 503 " in ask(server, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    finally:
        for connection in held:
            connection.close()
    eventually(lambda: get(server, "/")[0] == 200)


def test_a_flood_is_served_or_refused_and_leaves_no_thread(server, get, eventually):
    before = threading.active_count()
    results = []

    def once():
        try:
            results.append(get(server, "/")[0])
        except (OSError, IndexError, ValueError):
            results.append(0)  # the queue of the socket was full

    threads = [threading.Thread(target=once) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results) <= {200, 503, 0} and 200 in results
    eventually(lambda: threading.active_count() <= before)


def test_an_error_in_a_route_ends_that_answer_alone(get, ask, capfd):
    def broken(_request):
        raise ZeroDivisionError

    server = LocalServer(ANY, {"/": lambda _request: Answer(b"hello\n"), "/broken": broken})
    try:
        assert ask(server, b"GET /broken HTTP/1.0\r\nHost: localhost\r\n\r\n") == b""
        assert get(server, "/")[0] == 200
    finally:
        server.close()
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_port_in_use_is_said_in_one_sentence(server):
    with pytest.raises(NotWritable, match=rf"127.0.0.1:{server.port}: cannot be listened on: address already in use"):
        LocalServer(Listen("127.0.0.1", server.port), {})


def test_a_closed_server_leaves_its_port(get):
    server = LocalServer(ANY, {})
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


def test_ipv6_is_served():
    if not socket.has_ipv6:
        pytest.skip("system: no IPv6")
    try:
        server = LocalServer(Listen("::1", 0), {"/": lambda _request: Answer(b"six\n")})
    except NotWritable:
        pytest.skip("system: no IPv6")
    try:
        with socket.create_connection(("::1", server.port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: [::1]\r\n\r\n")
            assert b"six" in b"".join(iter(lambda: connection.recv(4096), b""))
    finally:
        server.close()
