"""An operator that a converter has no translation for, in one line instead of its traceback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from converters.shared.graph import Unsupported
from device_agent.contract.errors import LinesideError

_NAMED = (
    r"'(?:tf|tfl)\.(\w+)' op is neither",
    r"No translator found for (\w+)",
    r"op \[[^\]]*: (\w+)\] is not supported",
)


@contextmanager
def naming_operators(name: str) -> Iterator[None]:
    """The block converts to the artifact `name`; a foreign error that names no operator is a bug and stays what it is.

    Raises:
        Unsupported: the converter has no translation for an operator of the network.
    """
    try:
        yield
    except LinesideError:
        raise
    except Exception as error:
        found = next((match[1] for pattern in _NAMED if (match := re.search(pattern, str(error)))), None)
        if found is None:
            raise
        raise Unsupported(
            f"{name}: the network's operator {found} has no counterpart in {name.partition('-')[0]}; build the layer "
            "from convolutions, sums, products and pooling, or leave this artifact out with --only"
        ) from error
