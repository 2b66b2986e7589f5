"""What a plan's precisions are known to cost in quality."""

import functools
from pathlib import Path

from planner.catalog import specs
from planner.schema.quality import QualityNote, QualityNotes

_PARTS = {"weights": "weights", "kv_cache": "KV cache"}
_UNQUANTISED = "bf16"


@functools.cache
def quality_notes() -> QualityNotes:
    """Return the shipped notes, read once."""
    return specs.load("quality", "quality notes", "notes", Path(), QualityNotes).value


def quality_note(precision: str, kv_precision: str, checkpoint_precision: str) -> tuple[str, ...]:
    """Return what to tell the reader of a plan: a line for every note, none where nothing was quantised further.

    There are none on weights in the checkpoint's own precision, and none on a cache in bf16. Those that compare with
    the checkpoint's own precision come first.
    """
    found: list[QualityNote] = []
    if precision != checkpoint_precision:
        found += _notes("weights", precision, checkpoint_precision)
    if kv_precision != _UNQUANTISED:
        found += _notes("kv_cache", kv_precision, checkpoint_precision)
    return tuple(map(_line, found))


def _notes(part: str, precision: str, checkpoint_precision: str) -> list[QualityNote]:
    known = [note for note in quality_notes().notes if (note.part, note.precision) == (part, precision)]
    return sorted(known, key=lambda note: note.against != checkpoint_precision)


def _line(note: QualityNote) -> str:
    titles = "; ".join(quality_notes().sources[key].title for key in note.source)
    return f"{note.precision} {_PARTS[note.part]} against {note.against}, {note.models}: {note.value} ({titles})"
