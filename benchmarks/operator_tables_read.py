"""Reads operator tables of AIConfigurator for operator_tables.py; runs in the environment that has the package.

    python benchmarks/operator_tables_read.py SYSTEM OUT_FOLDER

Writes one .npz per operator and backend, `OPERATOR@BACKEND@VERSION.npz`: columns as arrays, latency in seconds. Only
files named below are opened, the newest version of each that a backend has among those the package lets one ask for.
"""

import sys
from pathlib import Path

import aiconfigurator_core
import numpy as np
import pandas
import yaml

SYSTEMS = Path(aiconfigurator_core.__file__).parent / "systems"
TABLES = {
    "gemm": "gemm/{backend}/{version}/gemm_perf.parquet",
    "attention_prefill": "attention/{backend}/{version}/context_attention_perf.parquet",
    "attention_decode": "attention/{backend}/{version}/generation_attention_perf.parquet",
    "mla_prefill": "mla/{backend}/{version}/context_mla_perf.parquet",
    "mla_decode": "mla/{backend}/{version}/generation_mla_perf.parquet",
    "experts": "moe/{backend}/{version}/moe_perf.parquet",
    "all_reduce": "comm/{backend}/{version}/custom_allreduce_perf.parquet",
}
_DROPPED = ("framework", "version", "device", "op_name", "power", "power_limit")


def versions(system: str) -> dict[str, str]:
    """Return the current version of each backend on a system."""
    listed = yaml.safe_load((SYSTEMS / "query_versions.yaml").read_text())
    slots = listed["defaults"] | listed["overrides"].get(system, {})
    return {backend: slot["current"] for backend, slot in slots.items()}


def main() -> None:
    """Write the tables of one system."""
    system, out = sys.argv[1], Path(sys.argv[2])
    for backend, version in versions(system).items():
        for operator, pattern in TABLES.items():
            path = SYSTEMS / "data" / system / pattern.format(backend=backend, version=version)
            if not path.exists():
                continue
            frame = pandas.read_parquet(path).drop(columns=list(_DROPPED), errors="ignore")
            columns = {
                name: column.to_numpy() if pandas.api.types.is_numeric_dtype(column) else column.to_numpy(dtype="U")
                for name, column in frame.items()
            }
            columns["seconds"] = columns.pop("latency") / 1e3
            np.savez(out / f"{operator}@{backend}@{version}.npz", **columns)


main()
