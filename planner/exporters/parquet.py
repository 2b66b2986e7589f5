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
        text = any(isinstance(value, str) for value in column.values)
        kind: Any = pyarrow.string() if text else pyarrow.float64()
        fields.append(pyarrow.field(column.key, kind, metadata={"title": column.title, "unit": column.unit}))
        columns.append(pyarrow.array(column.values, kind))
    stream = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(fields)), stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content
