"""Quality notes: every lower precision has one, with a source, and plans are told only what concerns them."""

import re
import typing

import pytest

from planner.catalog.quality import quality_note, quality_notes
from planner.schema.precision import KvPrecision, Precision

NOTES = quality_notes()
WEIGHTS = typing.get_args(Precision)
CACHES = typing.get_args(KvPrecision)
ORIGINAL = "bf16"
LONGEST = 400  # characters of a line in a report


@pytest.mark.parametrize("precision", WEIGHTS)
def test_weights_have_a_note_in_every_precision_below_bf16(precision):
    assert bool(quality_note(precision, ORIGINAL, ORIGINAL)) == (precision != ORIGINAL)


@pytest.mark.parametrize("precision", CACHES)
def test_the_cache_has_a_note_in_every_precision_below_bf16(precision):
    assert bool(quality_note(ORIGINAL, precision, ORIGINAL)) == (precision != ORIGINAL)


@pytest.mark.parametrize("precision", WEIGHTS)
def test_a_checkpoint_as_published_needs_no_note(precision):
    assert quality_note(precision, ORIGINAL, precision) == ()


@pytest.mark.parametrize("precision", WEIGHTS)
def test_a_quantised_cache_is_noted_whatever_the_weights(precision):
    told = quality_note(precision, "fp8", precision)
    assert told
    assert all(line.startswith("fp8 KV cache against bf16") for line in told)


def test_notes_of_weights_and_cache_come_together():
    assert quality_note("fp4", "fp8", "bf16") == quality_note("fp4", "bf16", "bf16") + quality_note(
        "bf16", "fp8", "bf16"
    )


@pytest.mark.parametrize("checkpoint", ["fp8", "bf16"])
@pytest.mark.parametrize("precision", ["int8", "fp4"])
def test_what_was_compared_with_the_checkpoint_s_own_precision_comes_first(precision, checkpoint):
    told = quality_note(precision, "bf16", checkpoint)
    assert f" against {checkpoint}, " in told[0]
    assert len(told) == 2


@pytest.mark.parametrize("note", NOTES.notes, ids=lambda note: f"{note.part}-{note.precision}-{note.against}")
def test_a_note_is_one_sentence_of_a_lower_precision_with_sources_that_exist(note):
    assert note.precision not in (note.against, ORIGINAL)
    assert not re.search(r"[.!?] [A-Z]|\.$", note.value)
    assert note.note
    assert set(note.source) <= set(NOTES.sources)


@pytest.mark.parametrize("precision", [p for p in WEIGHTS if p != ORIGINAL])
def test_every_precision_has_a_note_with_a_figure(precision):
    values = [note.value for note in NOTES.notes if (note.part, note.precision) == ("weights", precision)]
    assert any(re.search(r"\d %|\d points", value) for value in values)


def test_every_source_is_used():
    assert {key for note in NOTES.notes for key in note.source} == set(NOTES.sources)


def test_lines_name_their_sources_and_fit_a_report():
    lines = [line for precision in WEIGHTS for line in quality_note(precision, "fp8", ORIGINAL)]
    titles = [source.title for source in NOTES.sources.values()]
    assert all(any(title in line for title in titles) for line in lines)
    assert max(map(len, lines)) <= LONGEST
