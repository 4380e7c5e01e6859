"""`python -m fleet.web FD STORE [HOST...]`: the page on a listening socket that `lineside-fleet serve` hands over."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from fleet.web.app import make_server


def main(descriptor: int, store: str, *hosts: str) -> None:
    """Serve until standard input closes: then the monitor is gone, and the port must be free for the next one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_input, daemon=True).start()
    make_server(store, hosts).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
