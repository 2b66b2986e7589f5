"""What a calibration knows a deployment by."""

from typing import NamedTuple

import numpy as np

COLUMNS = ("system", "backend", "model", "precision", "tp", "pp", "attention_dp", "ep")


class Place(NamedTuple):
    """One deployment under one load: names as shipped, degrees, clients, and mean lengths [token]."""

    system: str
    backend: str
    model: str
    precision: str
    tp: int
    pp: int
    attention_dp: int
    ep: int
    concurrency: float
    isl: float
    osl: float

    @property
    def keys(self) -> tuple[str, ...]:
        """What a row has in common with others, by level."""
        pair = f"{self.system} {self.backend}"
        degrees = f"tp{self.tp} pp{self.pp} dp{self.attention_dp} ep{self.ep}"
        here = f"{self.model} {pair}"
        return (
            pair, self.model, f"{self.model} {self.backend}", here, f"{here} {self.precision}",
            f"{here} {self.precision} {degrees}",
        )  # fmt: skip

    @property
    def load(self) -> tuple[float, ...]:
        """Clients and lengths in doublings."""
        return tuple(float(np.log2(max(value, 1.0))) for value in (self.concurrency, self.isl, self.osl))

    @property
    def devices(self) -> int:
        """Devices of a replica."""
        return self.tp * self.pp * self.attention_dp
