"""What a stream may be called. Pure."""

from __future__ import annotations

NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")
NAME_LENGTH_MAX = 64


def check_name(name: str) -> None:
    """Whether a stream may be called so. Raises ValueError."""
    if not 0 < len(name) <= NAME_LENGTH_MAX or not NAME_CHARACTERS.issuperset(name):
        raise ValueError(f"{name[:80]!r} is no name of a stream: letters, digits and -_.~ are")
    if not name.strip("."):
        raise ValueError(f"{name!r} is no name of a stream")
