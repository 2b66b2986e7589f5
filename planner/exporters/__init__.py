"""One file per output format, and one name here; a format is imported when it is asked for."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from planner.launch.facts import Facts
from planner.plan import Plan
from planner.registry import by_name

Files = Mapping[str, str | bytes]


class Module(Protocol):
    """What the file of a format has: ``files`` by path from the folder that is written."""

    def files(self, plan: Plan, facts: Facts) -> Files:
        """Return everything that is written, by path."""


class Format(NamedTuple):
    """An output format: its name, what it is, and its module.

    ``pinned``: the definitions it is held to, names of files in planner/launch/definitions. ``reads``: its module also
    has ``read``, which returns the deployments that files say, by name (``launch.compose.Found``).
    """

    name: str
    title: str
    pinned: tuple[str, ...] = ()
    reads: bool = False

    def load(self) -> Module:
        """Import the format."""
        module: Module = importlib.import_module(f"planner.exporters.{self.name.replace('-', '_')}")
        return module


FORMATS: Mapping[str, Format] = MappingProxyType(
    by_name(
        (
            Format("vllm", "vLLM: a configuration per deployment, a Compose file per node", ("vllm",), reads=True),
        )
    )
)
