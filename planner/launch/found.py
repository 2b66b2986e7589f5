"""What launch files say, once they are read back."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Found(NamedTuple):
    """A deployment as launch files have it: fields by their names in the plan, and its replicas' devices by node."""

    fields: Mapping[str, Any]
    devices: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]
