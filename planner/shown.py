"""Explanations that notebooks draw as tables."""

from planner.explain.words import alternatives_blocks, explanation_blocks, why_not_blocks
from planner.explanation import Alternatives, Explanation, WhyNot
from planner.exporters.blocks import as_html, as_markdown, as_text


class ShownExplanation(Explanation):
    """An explanation with the views that notebooks ask for."""

    def _repr_markdown_(self) -> str:
        return as_markdown(explanation_blocks(self))

    def __repr__(self) -> str:
        return as_text(explanation_blocks(self))

    def _repr_html_(self) -> str:
        return as_html(explanation_blocks(self))


class ShownWhyNot(WhyNot):
    """An answer to why-not with the views that notebooks ask for."""

    def _repr_markdown_(self) -> str:
        return as_markdown(why_not_blocks(self))

    def __repr__(self) -> str:
        return as_text(why_not_blocks(self))

    def _repr_html_(self) -> str:
        return as_html(why_not_blocks(self))


class ShownAlternatives(Alternatives):
    """Plans next to the best with the views that notebooks ask for."""

    def _repr_markdown_(self) -> str:
        return as_markdown(alternatives_blocks(self))

    def __repr__(self) -> str:
        return as_text(alternatives_blocks(self))

    def _repr_html_(self) -> str:
        return as_html(alternatives_blocks(self))
