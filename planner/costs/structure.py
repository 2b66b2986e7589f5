"""Which kinds of layers a model is made of; one compiled cost function serves all models of a structure."""

from dataclasses import dataclass
from types import ModuleType

from planner.costs.layers import dense_ffn, gqa, moe_ffn

ATTENTION: dict[str, ModuleType] = {"gqa": gqa}
FFN: dict[str, ModuleType] = {"dense": dense_ffn, "moe": moe_ffn}


@dataclass(frozen=True, slots=True)
class Structure:
    """The layer kinds of a model."""

    attention_kind: str
    ffn_kind: str

    @property
    def attention(self) -> ModuleType:
        """The attention layer's module."""
        return ATTENTION[self.attention_kind]

    @property
    def ffn(self) -> ModuleType:
        """The feed-forward layer's module."""
        return FFN[self.ffn_kind]
