"""The tables of the capacity workbook as Parquet; titles and units are metadata of the columns."""

from types import ModuleType
from typing import Any

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
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = "parquet needs pyarrow: pip install 'llm-deployment-planner[parquet]', or export --to csv"
        raise InputError.single("", message, "--to") from None
    return {f"{table.name}.parquet": _written(table, pyarrow) for table in tidy(sheets(plan, facts.capacity))}


def _written(table: TidyTable, pyarrow: ModuleType) -> bytes:
    fields, columns = [], []
    for column in table.columns:
        known: Any = next((value for value in column.values if value is not None), 0.0)
        kind = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}[type(known)]
        fields.append(pyarrow.field(column.key, kind, metadata={"title": column.title, "unit": column.unit}))
        columns.append(pyarrow.array(column.values, kind))
    stream = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(fields)), stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content
