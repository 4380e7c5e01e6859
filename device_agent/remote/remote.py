"""Configurations and commands as they come in: what is not signed, not new or not for this device changes nothing."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Full, Queue
from typing import NamedTuple, TypeVar

from device_agent.contract.codec import SCHEMA, decode
from device_agent.contract.control import (
    MOST_COMMAND_BYTES,
    MOST_CONFIG_BYTES,
    MOST_TEXT,
    Command,
    Config,
    Response,
)
from device_agent.contract.errors import BadInput, LinesideError, NotWritable
from device_agent.remote.memory import Memory, read_memory, read_version, write_memory, write_version
from device_agent.remote.settings import RemoteSettings, read_remote
from device_agent.remote.trust import Trust

MOST_A_MINUTE, MINUTE_S = 30, 60.0
MOST_AHEAD_MS, MOST_BEHIND_MS = 600_000, 60_000
MOST_WAITING = 4
SIGNATURE_BYTES = 64
Handler = Callable[[str], str]
Asked = TypeVar("Asked", Config, Command)


class Clocks(NamedTuple):
    """Seconds on the monotonic clock and on the wall."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]


class Remote:
    """What the fleet asks of one device. `config` and `command` are called from one thread, and never raise.

    At most 30 messages a minute are even looked at; what is refused is an event, each kind once a minute with their
    number. Commands are run one after the other in a thread of their own.

    Args:
        key: file of the fleet's public key; without one everything is refused.
        handlers: what each command does: its arguments to a sentence; what it raises is a refusal.
        apply: hears of settings that are to hold from now on, from the caller's thread.
        respond: takes answers, from any thread.

    Raises:
        NotFound, BadInput: a key that is none.
    """

    def __init__(
        self,
        device: str,
        key: Path | None,
        state: Path,
        *,
        handlers: Mapping[str, Handler],
        apply: Callable[[RemoteSettings], None],
        respond: Callable[[Response], None],
        event: Callable[[str, str], None],
        clocks: Clocks,
    ) -> None:
        self._device, self._state, self._clocks = device, state, clocks
        self._handlers, self._apply, self._respond, self._event = handlers, apply, respond, event
        self._trust = Trust(key) if key is not None else None
        self._looked: deque[float] = deque(maxlen=MOST_A_MINUTE)
        self._refused: Counter[str] = Counter()
        self._said_s: dict[str, float] = {}
        self._deaf_until_s = 0.0
        self._believed: tuple[int, float] | None = None
        self._memory = self._load()
        self._waiting: Queue[tuple[Command, float] | None] = Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    @property
    def settings(self) -> RemoteSettings:
        """What was applied last, before this start too."""
        return read_remote(self._memory.settings) if self._memory.settings else RemoteSettings()

    def _load(self) -> Memory:
        """What is remembered; a configuration that was changed on the disk is forgotten, and comes again."""
        try:
            memory = read_memory(self._state)
            if memory.settings and self._trust is not None:
                self._check_kept(memory)
            elif memory.settings:
                memory.settings = ""
            return memory
        except BadInput as error:
            self._deaf_until_s = self._clocks.monotonic() + MOST_AHEAD_MS / 1000
            self._event("remote_damaged", f"{error}; no command is taken for 10 minutes, as it might come twice")
            return Memory(version=read_version(self._state))

    def _check_kept(self, memory: Memory) -> None:
        """A configuration of another key or another version of this program comes again; all else stays known."""
        config = Config(SCHEMA, memory.version, memory.settings, memory.signature)
        try:
            if not self._trusts(config):
                memory.version = read_version(self._state)
                raise BadInput("it is not the fleet's")
            read_remote(memory.settings)
        except BadInput as error:
            memory.settings = ""
            self._event("remote_damaged", f"{self._state}: the configuration there: {error}; the next one counts")

    def _trusts(self, message: Config | Command) -> bool:
        return self._trust is not None and self._trust.signed(message, self._device)

    def config(self, payload: bytes) -> None:
        """A configuration, retained or not. The one that holds is repeated at every connection, and nothing new."""
        try:
            config = self._read(payload, Config, MOST_CONFIG_BYTES)
            memory = self._memory
            if (config.version, config.settings) == (memory.version, memory.settings):
                return
            if config.version < memory.version or (config.version == memory.version and memory.settings):
                why = f"version {config.version} comes after {memory.version}"
                self._refuse("config_old", why)
                self._answer(config.nonce, False, why)
                return
            try:
                settings = read_remote(config.settings)
            except BadInput as error:
                self._refuse("config_refused", f"version {config.version}: {error}")
                self._answer(config.nonce, False, str(error))
                return
            memory.version, memory.settings, memory.signature = config.version, config.settings, config.signature
            kept = self._save(config.version)
            self._apply(settings)
            self._event("config_applied", f"version {config.version}: {config.settings[:200]}")
            self._answer(config.nonce, True, "applied" if kept else "applied, but not kept over a restart")
        except _Refused as refused:
            self._refuse(refused.kind, str(refused))

    def command(self, payload: bytes, *, retained: bool) -> None:
        """A command. One that the broker kept is void: who knows how old it is."""
        try:
            if retained:
                raise _Refused("command_retained", "commands are never retained")
            command = self._read(payload, Command, MOST_COMMAND_BYTES)
            ends_s = self._check_time(command)
            if command.name not in self._handlers:
                known = ", ".join(sorted(self._handlers))
                self._answer(command.nonce, False, f"no command {command.name[:40]!r}; known are {known}")
                return
            self._hand(command, ends_s)
        except _Refused as refused:
            self._refuse(refused.kind, str(refused))
            if refused.nonce:
                self._answer(refused.nonce, False, str(refused))

    def _read(self, payload: bytes, kind: type[Asked], most: int) -> Asked:
        if self._trust is None:
            raise _Refused("remote_unheard", "no key of the fleet is configured: nothing that is asked is done")
        if len(payload) > most:
            raise _Refused("remote_refused", f"{len(payload)} bytes, at most {most} are read")
        try:
            message = decode(payload, kind)
        except BadInput as error:
            raise _Refused("remote_refused", str(error)) from None
        if len(message.signature) != SIGNATURE_BYTES:
            raise _Refused("remote_refused", "it is not signed")
        now_s = self._clocks.monotonic()
        if len(self._looked) == MOST_A_MINUTE and now_s - self._looked[0] < MINUTE_S:
            raise _Refused("remote_flood", f"over {MOST_A_MINUTE} messages a minute")
        self._looked.append(now_s)
        if not self._trust.signed(message, self._device):
            raise _Refused("remote_refused", "it is not signed by the fleet for this device")
        return message

    def _now_ms(self, command: Command) -> int:
        """The time. A clock that is well behind a time that was believed before is none to judge by: what was withheld
        then would hold again now."""
        wall_ms, floor_ms = int(self._clocks.wall() * 1000), self._memory.latest_ms
        if self._believed is not None:
            believed_ms, then_s = self._believed
            floor_ms = max(floor_ms, believed_ms + int((self._clocks.monotonic() - then_s) * 1000))
        if wall_ms < floor_ms - MOST_BEHIND_MS:
            behind_s = (floor_ms - wall_ms) // 1000
            why = f"this device's clock is {behind_s} s behind a time that it believed before; set it"
            raise _Refused("command_clock", f"{command.name[:40]}: {why}", command.nonce)
        return max(wall_ms, floor_ms)

    def _check_time(self, command: Command) -> float:
        """Until when it holds, in seconds on the monotonic clock."""
        memory, name = self._memory, command.name[:40]
        if memory.seen(command.nonce):
            raise _Refused("command_replayed", f"{name}: it was taken before")
        if (deaf_s := self._deaf_until_s - self._clocks.monotonic()) > 0:
            raise _Refused("command_refused", f"{name}: commands are taken again in {deaf_s:.0f} s", command.nonce)
        now_s, now_ms = self._clocks.monotonic(), self._now_ms(command)
        if command.expires_ms < now_ms:
            raise _Refused("command_expired", f"{name}: it has expired by this device's clock", command.nonce)
        if command.expires_ms > now_ms + MOST_AHEAD_MS:
            why = f"{name}: it expires in over 10 minutes by this device's clock; is the clock set?"
            raise _Refused("command_expired", why, command.nonce)
        memory.note(command.nonce, command.expires_ms, now_ms)
        self._believed = now_ms, now_s
        if not self._save():
            why = f"{name}: its nonce cannot be kept, so it might come twice"
            raise _Refused("command_refused", why, command.nonce)
        return now_s + (command.expires_ms - now_ms) / 1000

    def _save(self, version: int | None = None) -> bool:
        try:
            write_memory(self._state, self._memory)
            if version is not None:
                write_version(self._state, version)
        except NotWritable as error:
            self._refuse("remote_unsaved", str(error))
            return False
        return True

    def _hand(self, command: Command, ends_s: float) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="remote", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((command, ends_s))
        except Full:
            self._answer(command.nonce, False, f"busy: {MOST_WAITING} commands wait")

    def _run(self) -> None:
        while (taken := self._waiting.get()) is not None:
            command, ends_s = taken
            if self._clocks.monotonic() > ends_s:
                self._answer(command.nonce, False, "it expired while another command ran")
                continue
            self._event("command", f"{command.name} {command.arguments[:100]}".strip())
            try:
                said, ok = self._handlers[command.name](command.arguments), True
            except LinesideError as error:
                said, ok = str(error), False
            except Exception as error:  # noqa: BLE001 - a bug in one command must not end the others
                said, ok = f"the command failed by an error in this program: {type(error).__name__}: {error}", False
            self._answer(command.nonce, ok, said)

    def _answer(self, nonce: bytes, ok: bool, text: str) -> None:
        cut = text.encode(errors="replace")[:MOST_TEXT].decode(errors="ignore")
        self._respond(Response(SCHEMA, nonce, ok, cut))

    def _refuse(self, kind: str, why: str) -> None:
        """Said once a minute for each kind, with how many there were."""
        self._refused[kind] += 1
        now_s = self._clocks.monotonic()
        if now_s - self._said_s.get(kind, -MINUTE_S) >= MINUTE_S:
            count, self._refused[kind], self._said_s[kind] = self._refused[kind], 0, now_s
            self._event(kind, why if count == 1 else f"{why}; {count} times since this was last said")

    def close(self) -> None:
        """End the thread once the command that runs is done, or after 2 s."""
        if self._thread is not None:
            try:
                self._waiting.put_nowait(None)
            except Full:
                return
            self._thread.join(2.0)


class _Refused(Exception):
    """`nonce`: of a command whose signature holds, which is answered."""

    def __init__(self, kind: str, why: str, nonce: bytes = b"") -> None:
        super().__init__(why)
        self.kind, self.nonce = kind, nonce
