"""The capacity workbook for spreadsheets: formulas with values, formats, frozen heads, names, charts, print areas.

Every formula is written with the value it has, so that readers that do not calculate see figures, too.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from planner.launch.facts import Facts
from planner.plan import Plan
from planner.workbook import sheets
from planner.workbook.formula import Cell, Formula
from planner.workbook.sheet import Chart, Column, Sheet, Table

_NUMBERS = {
    "text": "@",
    "count": "#,##0",
    "number": "#,##0.00",
    "money": "#,##0.00",
    "percent": "0.0%",
    "share": "0.0%",
    "factor": "0.00",
    "general": "[>=100000]0.000E+00;[<0.01]0.000E+00;#,##0.####",  # of any size
}
_SHOWN = {"count": ",.0f", "percent": ".1%", "share": ".1%", "general": ".4g"}
_INK, _LINE, _HEAD, _YELLOW = "#1F3864", "#BFBFBF", "#DCE6F1", "#FFF7CC"
_NARROWEST, _WIDEST = 9, 48
_LINE_HEIGHT, _PAGE_WIDTH = 13.5, 170  # points; characters of a page that can still be read
_SPACE = 3  # points above and below the lines of a row
_CHART_WIDTH, _CHART_HEIGHT, _CHART_ROWS, _CHART_COLUMNS = 620, 340, 18, 10
_A4 = 9
_WHEN = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # the same plan gives the same bytes
Formats = Callable[..., Any]


def files(plan: Plan, facts: Facts) -> dict[str, bytes]:
    """Return the workbook."""
    import xlsxwriter

    content = io.BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    book.set_properties({"title": f"Capacity plan: {plan.scenario.name}", "created": _WHEN})
    book.set_calc_mode("auto")
    made = sheets(plan, facts.capacity)
    formats = _formats(book)
    for place, sheet in enumerate(made):
        _write(book.add_worksheet(sheet.name), sheet, formats)
        if place == 0:
            _draw(book, [chart for each in made for chart in each.charts], formats)
    for name, where in _names(made):
        book.define_name(name, f"={where}")
    book.close()
    return {"plan.xlsx": content.getvalue()}


def _names(made: Sequence[Sheet]) -> Iterator[tuple[str, str]]:
    for sheet in made:
        for table in sheet.tables:
            yield from table.names.items()


def _formats(book: Any) -> Formats:
    """Return a function that gives the format of some properties, made once."""
    known: dict[tuple[tuple[str, object], ...], Any] = {}

    def of(**properties: object) -> Any:
        key = tuple(sorted(properties.items()))
        if key not in known:
            known[key] = book.add_format({"font_name": "Arial", "font_size": 10, "valign": "top", **properties})
        return known[key]

    return of


def _write(page: Any, sheet: Sheet, formats: Formats) -> None:
    page.hide_gridlines(2)
    page.write_string(0, 0, sheet.title, formats(bold=True, font_size=14, font_color=_INK))
    widths = _widths(sheet.tables)
    for table in sheet.tables:
        _write_table(page, table, formats, widths)
        page.set_row(table.first - 1, _SPACE + _LINE_HEIGHT * _lines(table, widths))
    for column, width in enumerate(widths):
        page.set_column(column, column, width)
    head = sheet.tables[0].first
    page.freeze_panes(head, 1)
    last = max(table.below for table in sheet.tables) - 2
    _printed(page, (last, len(widths) - 1), pages=math.ceil(sum(widths) / _PAGE_WIDTH))
    page.repeat_rows(0, head - 1 if len(sheet.tables) == 1 else 0)
    page.repeat_columns(0)


def _lines(table: Table, widths: Sequence[int]) -> int:
    """Return the lines that the heads of a table take: programs do not make room for wrapped text by themselves."""
    return max(
        sum(len(textwrap.wrap(part, width - 1)) for part in _head(column).split("\n"))
        for column, width in zip(table.columns, widths, strict=False)
    )


def _printed(page: Any, corner: tuple[int, int], pages: int = 1) -> None:
    """Have all up to a corner printed, so many pages wide."""
    page.print_area(0, 0, *corner)
    page.set_landscape()
    page.set_paper(_A4)
    page.fit_to_pages(pages, 0)
    page.set_footer("&L&F&C&A&R&P / &N")


def _write_table(page: Any, table: Table, formats: Formats, widths: Sequence[int]) -> None:
    page.write_string(table.top, 0, table.title, formats(bold=True, font_size=12, font_color=_INK))
    page.write_string(table.top + 1, 0, table.note, formats(italic=True, font_color="#595959"))
    for number, column in enumerate(table.columns):
        align = "left" if column.style == "text" else "right"
        inset = {"indent": 1} if align == "left" else {}
        look = formats(bold=True, bg_color=_HEAD, bottom=1, text_wrap=True, align=align, **inset)
        page.write_string(table.first - 1, number, _head(column), look)
    for row, (item, cells) in enumerate(zip(table.items, table.cells, strict=True), start=table.first):
        for number, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
            style = _style(column, item)
            wrapped = isinstance(cell, str) and len(cell) >= widths[number]
            _put(page, (row, number), cell, _look(formats, style, editable=column.editable, wrapped=wrapped))
            if column.editable:
                page.data_validation(row, number, row, number, _allowed(style))
        texts = zip(cells, widths, strict=False)
        lines = max((len(textwrap.wrap(cell, width - 2)) for cell, width in texts if isinstance(cell, str)), default=1)
        if lines > 1:
            page.set_row(row, _SPACE + _LINE_HEIGHT * lines)
    for number, column in enumerate(table.columns):
        if table.sums:
            look = formats(bold=True, top=1, num_format=_NUMBERS[str(column.style)])
            last: Cell = "total" if number == 0 else table.sums.get(column.key)
            _put(page, (table.first + len(table.cells), number), last, look)


def _head(column: Column) -> str:
    return f"{column.title}\n[{column.unit}]" if column.unit else column.title


def _look(formats: Formats, style: str, *, editable: bool, wrapped: bool = False) -> Any:
    yours: Mapping[str, object] = {"bg_color": _YELLOW, "font_color": "#0000C0"} if editable else {}
    align = {"align": "left", "indent": 1} if style == "text" else {"align": "right"}
    wrap = {"text_wrap": True} if wrapped else {}
    return formats(num_format=_NUMBERS[style], bottom=4, bottom_color=_LINE, **align, **yours, **wrap)


def _put(page: Any, place: tuple[int, int], cell: Cell, look: Any) -> None:
    """Write a cell; texts stay texts, whatever they begin with."""
    if isinstance(cell, Formula):
        page.write_formula(*place, f"={cell.text}", look, "" if cell.value is None else cell.value)
    elif cell is None or cell == "":
        page.write_blank(*place, None, look)
    elif isinstance(cell, str):
        page.write_string(*place, cell, look)
    else:
        page.write_number(*place, cell, look)


def _allowed(style: str) -> dict[str, object]:
    """Return what may be put into an editable cell."""
    if style == "count":
        return {"validate": "integer", "criteria": ">=", "value": 0, "error_message": "a whole number, 0 or more"}
    if style == "share":  # what is divided by it has no value at 0
        bounds = {"criteria": "between", "minimum": 0.01, "maximum": 1}
        return {"validate": "decimal", **bounds, "error_message": "from 1 % to 100 %"}
    least = -1 if style == "percent" else 0
    return {"validate": "decimal", "criteria": ">=", "value": least, "error_message": f"a number, {least} or more"}


def _widths(tables: Sequence[Table]) -> list[int]:
    """Return the width of each column: of its longest word in a head, and of what it shows."""
    widths = [_NARROWEST] * max(len(table.columns) for table in tables)
    for table in tables:
        for number, column in enumerate(table.columns):
            shown = [
                _shown(_style(column, item), cells[number])
                for item, cells in zip(table.items, table.cells, strict=True)
            ]
            longest = max(len(text) for text in (f"[{column.unit}]", *column.title.split(), *shown))
            widths[number] = max(widths[number], min(longest + 3, _WIDEST))
    return widths


def _style(column: Column, item: object) -> str:
    return column.style if isinstance(column.style, str) else column.style(item)


def _shown(style: str, cell: Cell) -> str:
    """Return what a cell shows, or as much room as it takes."""
    value = cell.value if isinstance(cell, Formula) else cell
    if isinstance(value, str) or value is None:
        return value or ""
    return format(value, _SHOWN.get(style, ",.2f"))


def _draw(book: Any, charts: Sequence[Chart], formats: Formats) -> None:
    """Draw all charts on a sheet of their own, two side by side."""
    if not charts:
        return
    page = book.add_worksheet("Charts")
    page.hide_gridlines(2)
    page.write_string(0, 0, "Charts", formats(bold=True, font_size=14, font_color=_INK))
    page.freeze_panes(1, 0)
    for place, chart in enumerate(charts):
        drawn = book.add_chart({"type": chart.kind})
        for series in chart.series:
            drawn.add_series({"name": series.name, "categories": f"={series.x.text}", "values": f"={series.y.text}"})
        drawn.set_title({"name": chart.title, "name_font": {"size": 12}})
        drawn.set_x_axis({"name": chart.x_title})
        drawn.set_y_axis({"name": chart.y_title, "min": 0, "major_gridlines": {"visible": True}})
        drawn.set_legend({"position": "bottom"})
        drawn.set_size({"width": _CHART_WIDTH, "height": _CHART_HEIGHT})
        row, column = divmod(place, 2)
        page.insert_chart(2 + row * _CHART_ROWS, column * _CHART_COLUMNS, drawn)
    rows = 2 + (len(charts) + 1) // 2 * _CHART_ROWS
    _printed(page, (rows, 2 * _CHART_COLUMNS))
