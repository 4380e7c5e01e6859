"""Errors that a person can act on, each with the exit code its command ends with."""

from __future__ import annotations


class LinesideError(Exception):
    """One lower-case sentence: where, what came, what would work. The command line prints it and no traceback."""

    exit_code = 1


class BadInput(LinesideError, ValueError):
    """A file, folder, option or message is not what it has to be (exit 1)."""


class NotFound(LinesideError, FileNotFoundError):
    """A path or a name does not exist (exit 1)."""


class NotWritable(LinesideError, OSError):
    """A file could not be written: disk full, read-only, no permission (exit 1)."""


class MissingPackage(LinesideError, ImportError):
    """An optional package is not installed; the sentence names the install command (exit 1)."""


class UnknownSchema(BadInput):
    """A document or message of a major schema that this version cannot read (exit 1)."""


class BudgetMissed(LinesideError):
    """A measured figure is over the budget of the profile (exit 3)."""

    exit_code = 3


class ParityFailed(LinesideError):
    """An artifact does not compute what was trained (exit 4)."""

    exit_code = 4


class SelfTestFailed(LinesideError):
    """A runtime does not reproduce the bundle's golden outputs (exit 4)."""

    exit_code = 4


class Unreachable(LinesideError, ConnectionError):
    """A broker, camera or device does not answer (exit 5)."""

    exit_code = 5


class TrustFailed(LinesideError):
    """A digest or signature does not fit: the file was damaged or forged (exit 6)."""

    exit_code = 6


class DriftFound(LinesideError):
    """A check that was asked to fail on drift found it (exit 7)."""

    exit_code = 7
