"""Scripts that go into launch folders as they are: they run on nodes, so on a shell and Python's own library alone."""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent


def script(name: str) -> str:
    """Return the text of a script."""
    return (_FOLDER / name).read_text(encoding="utf-8")
