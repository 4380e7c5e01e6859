"""The converters' chatter, kept back unless they fail."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from device_agent.contract.errors import LinesideError


@contextmanager
def held_back() -> Iterator[None]:
    """Nothing that is written to stdout or stderr in this block is seen, native code included.

    It is kept in memory, so that a full disk is no trouble. When the block ends with an error that has no sentence for
    people, the last 40 lines go to stderr after all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with os.fdopen(os.memfd_create("chatter"), "w+b") as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        show = True
        try:
            with open(sink.fileno(), "w", closefd=False) as text, redirect_stdout(text), redirect_stderr(text):
                yield
            show = False
        except (LinesideError, OSError, KeyboardInterrupt):
            show = False
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)
            if show:
                sink.seek(0)
                os.write(2, b"".join(sink.readlines()[-40:]))
