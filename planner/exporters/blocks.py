"""Paragraphs and tables as plain text, Markdown or HTML."""

from collections.abc import Iterator, Sequence
from html import escape

from planner.text import Block, Lines, Table, aligned


def as_text(blocks: Sequence[Block]) -> str:
    """Return plain text for a terminal; an empty line between blocks."""
    return "\n\n".join("\n".join(_text(block)) for block in blocks) + "\n"


def _text(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield from aligned(block.headers, block.rows, block.left)
    elif isinstance(block, Lines):
        width = max((len(name) for name, _ in block.named), default=0)
        for name, lines in block.named:
            for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
                yield f"{label:{width}}  {line}"
    else:
        yield block


def as_markdown(blocks: Sequence[Block]) -> str:
    """Return Markdown."""
    return "\n\n".join("\n".join(_markdown(block)) for block in blocks) + "\n"


def _markdown(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield _row(block.headers)
        yield _row([":--" if header in block.left else "--:" for header in block.headers])
        yield from (_row(row) for row in block.rows)
    elif isinstance(block, Lines):
        for name, lines in block.named:
            yield from (f"- **{name}** {_escaped(line)}" for line in lines)
    else:
        yield _escaped(block)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def as_html(blocks: Sequence[Block]) -> str:
    """Return HTML for notebooks and pages."""
    return "\n".join("\n".join(_html(block)) for block in blocks)


def _html(block: Block) -> Iterator[str]:
    if isinstance(block, Table):
        yield "<table>"
        yield _cells("th", block.headers, block)
        yield from (_cells("td", row, block) for row in block.rows)
        yield "</table>"
    elif isinstance(block, Lines):
        yield "<ul>"
        for name, lines in block.named:
            yield from (f"<li><b>{escape(name)}</b> {escape(line)}</li>" for line in lines)
        yield "</ul>"
    else:
        yield f"<p>{escape(block)}</p>"


def _cells(tag: str, cells: Sequence[str], table: Table) -> str:
    sides = ["left" if header in table.left else "right" for header in table.headers]
    made = (
        f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"
