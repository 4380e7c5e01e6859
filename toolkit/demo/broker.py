"""The demo's MQTT broker: Mosquitto where it is installed, amqtt inside this Python otherwise."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from toolkit.demo.programs import Programs, answers, wait_until


def start_broker(programs: Programs, folder: Path, port: int) -> str:
    """Name of the broker that now listens on 127.0.0.1:port without a password.

    Raises:
        LinesideError: it did not start.
    """
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if mosquitto:
        config = folder / "mosquitto.conf"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        programs.start("broker", [mosquitto, "-c", str(config)])
    else:
        programs.start("broker", [sys.executable, "-m", "toolkit.demo.broker", str(port)])
    wait_until(lambda: answers(port), programs, what=f"a broker on port {port}", timeout_s=20)
    return "mosquitto" if mosquitto else "amqtt"


async def _serve(port: int) -> None:
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
