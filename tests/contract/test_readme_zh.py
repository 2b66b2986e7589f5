"""The Chinese README is in step with the English one: the same code blocks, links, sections, and words of code.

After a change of README.md: copy its changed code blocks and links into README.zh-CN.md as they are, and translate the
changed sentences. Prose is not compared.
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "README.zh-CN.md")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
TEXTS = [(ROOT / name).read_text(encoding="utf-8") for name in NAMES]
PROSE = [BLOCK.sub("", text) for text in TEXTS]


def both(found):
    return [found(text) for text in PROSE]


def test_code_blocks_are_the_same():
    english, chinese = (BLOCK.findall(text) for text in TEXTS)
    assert chinese == english


def test_sections_and_items_are_as_many():
    for pattern in (r"^# ", r"^## ", r"^### ", r"^- "):
        english, chinese = both(lambda text, pattern=pattern: len(re.findall(pattern, text, re.MULTILINE)))
        assert chinese == english, pattern


def test_links_are_the_same():
    """Each page links to the other besides."""
    english, chinese = both(lambda text: Counter(re.findall(r"\]\(([^)]+)\)", text)))
    assert english.pop(NAMES[1]) == chinese.pop(NAMES[0]) == 1
    assert chinese == english


def test_words_of_code_and_figures_are_the_same():
    english, chinese = both(lambda text: Counter(re.findall(r"`([^`]+)`", text)))
    assert chinese == english
    figures = r"\d+(?:\.\d+)? %"
    english, chinese = both(lambda text: Counter(re.findall(figures, text)))
    assert chinese == english
