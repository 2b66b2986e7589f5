"""Where shipped data lives: the only module that knows about wheels and checkouts."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """Return the folder of shipped data of one kind.

    ``architectures`` and ``engines`` are package data; ``hardware_specs`` and ``scenarios`` lie in
    ``planner/_data`` of an installed wheel and at the top level of a checkout.
    """
    inside = _PACKAGE / kind
    if inside.is_dir():
        return inside
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind
