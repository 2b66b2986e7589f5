"""One file per output format, and one name here; a format is imported when it is asked for."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from planner.registry import by_name

if TYPE_CHECKING:  # heavy, and read of most formats only when they are asked for
    from planner.launch.facts import Facts
    from planner.launch.found import Found
    from planner.plan import Plan

Files = Mapping[str, str | bytes]


class Module(Protocol):
    """What the module of a format has."""

    def files(self, plan: "Plan", facts: "Facts") -> Files:
        """Return everything that is written, by path."""


class Reader(Module, Protocol):
    """What the module of a format has whose files are read back."""

    def read(self, written: Files, plan: "Plan", facts: "Facts") -> Mapping[str, "Found"]:
        """Return the deployments that files say, by name."""


class Format(NamedTuple):
    """An output format: its name, what it is, and its module.

    ``pinned``: the definitions it is held to, names of files in planner/launch/definitions. ``reads``: its module also
    has ``read`` (``Reader``). ``studies``: it shows what studies of the plan find.
    """

    name: str
    title: str
    pinned: tuple[str, ...] = ()
    reads: bool = False
    studies: bool = False

    def load(self) -> Reader:
        """Import the format; it has no ``read`` unless ``reads`` says so."""
        module: Reader = importlib.import_module(f"planner.exporters.{self.name.replace('-', '_')}")
        return module


_DYNAMO = ("dynamo", "dynamo-1.3.1", "vllm-0.23.0", "sglang-0.5.21", "trtllm", "aiperf")
_VLLM = ("vllm", "vllm-router")
FORMATS: Mapping[str, Format] = MappingProxyType(
    by_name(
        (
            Format("markdown", "Markdown for a pull request or a page: one text"),
            Format("xlsx", "capacity workbook: demand, cost, growth and what-if cases, with formulas", studies=True),
            Format("csv", "the tables of the capacity workbook, one CSV file each", studies=True),
            Format("parquet", "the same tables as Parquet", studies=True),
            Format("vllm", "vLLM: a configuration per deployment, a Compose file per node", _VLLM, reads=True),
            Format("vllm-ascend", "vLLM with the vllm-ascend plugin: the same", ("vllm-ascend", "vllm"), reads=True),
            Format("sglang", "SGLang: the same", ("sglang", "sglang-router"), reads=True),
            Format("mindie", "MindIE: mixed replicas, the same", ("mindie", "aiperf"), reads=True),
            Format("dynamo", "Kubernetes: Dynamo's graphs, with vLLM, SGLang or TensorRT-LLM", _DYNAMO, reads=True),
            Format(
                "trtllm",
                "TensorRT-LLM: the same, on several nodes as Slurm jobs",
                ("trtllm", "aiperf"),
                reads=True,
            ),
        )
    )
)
