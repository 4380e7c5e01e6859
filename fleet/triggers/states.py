"""States of a trigger and the moves between them; how many people have to agree, and who counts as one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from device_agent.contract.errors import BadInput

MOVES: dict[str, tuple[str, ...]] = {
    "open": ("labelling", "rejected"),
    "labelling": ("training", "rejected"),
    "training": ("shadow", "rejected"),
    "shadow": ("canary", "rejected"),
    "canary": ("done", "rolled_back"),
    "done": (),
    "rejected": (),
    "rolled_back": (),
}
"""Where each state may go; the first one is the next when all goes well."""
ENDED = frozenset(state for state, after in MOVES.items() if not after)


def check_move(subject: str, before: str, after: str) -> None:
    """Refuse a move that is none.

    >>> check_move("trigger t-1", "open", "labelling")

    Raises:
        BadInput: no such move; those that there are, are named.
    """
    if after not in MOVES[before]:
        legal = ", ".join(MOVES[before]) or "nowhere, it has ended"
        raise BadInput(f"{subject}: is {before} and cannot become {after}; it can go to: {legal}")


def same_person(name: str) -> str:
    """A name as it counts: two ways of writing one name are one person.

    >>> same_person(" Ann "), same_person("ANN")
    ('ann', 'ann')
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def check_name(name: str) -> str:
    """The name, without blanks at its ends.

    Raises:
        BadInput: empty, over 64 characters, or with a character that cannot be printed.
    """
    plain = name.strip()
    if not plain or len(plain) > 64 or not plain.isprintable() or not same_person(plain):
        raise BadInput(f"who: a name of 1 to 64 printable characters is wanted, got {name[:40]!r}; give it with --by")
    return plain


def people(names: Iterable[str]) -> list[str]:
    """Names of different people, in order.

    >>> people(["ann", "Ann", "bob"])
    ['ann', 'bob']
    """
    return list({same_person(name): name for name in reversed(list(names))}.values())[::-1]
