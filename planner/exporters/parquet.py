"""Tables as Parquet; of the capacity workbook, titles and units are metadata of the columns."""

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, cast

from planner.errors import InputError
from planner.launch.facts import Facts
from planner.plan import Plan
from planner.workbook import sheets
from planner.workbook.tidy import TidyTable, tidy


def files(plan: Plan, facts: Facts) -> dict[str, bytes]:
    """Return a file for each table.

    Raises:
        InputError: pyarrow is not installed.
    """
    pyarrow = _pyarrow("--to", "export --to csv")
    return {f"{table.name}.parquet": _written(table, pyarrow) for table in tidy(sheets(plan, facts.capacity))}


def rows_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a file of rows that have the same keys.

    Raises:
        InputError: pyarrow is not installed.
    """
    pyarrow = _pyarrow("--out", "write a .csv file")
    return _bytes(pyarrow.Table.from_pylist([dict(row) for row in rows]), pyarrow)


def _pyarrow(option: str, instead: str) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = f"parquet needs pyarrow: pip install 'llm-deployment-planner[parquet]', or {instead}"
        raise InputError.single("", message, option) from None
    return cast(ModuleType, pyarrow)


def _written(table: TidyTable, pyarrow: ModuleType) -> bytes:
    fields, columns = [], []
    for column in table.columns:
        known: Any = next((value for value in column.values if value is not None), 0.0)
        kind = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}[type(known)]
        fields.append(pyarrow.field(column.key, kind, metadata={"title": column.title, "unit": column.unit}))
        columns.append(pyarrow.array(column.values, kind))
    return _bytes(pyarrow.table(columns, schema=pyarrow.schema(fields)), pyarrow)


def _bytes(table: Any, pyarrow: ModuleType) -> bytes:
    stream = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content
