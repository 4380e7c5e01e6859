"""The PostgreSQL cluster that other tests stand on."""

import socket
from urllib.parse import urlsplit

import pytest


@pytest.mark.postgres
def test_the_cluster_takes_connections(postgres_url):
    place = urlsplit(postgres_url)
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))  # SSLRequest
        assert connection.recv(1) == b"N"
