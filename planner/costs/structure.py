"""Which kinds of layers a model is made of, on which kind of device; a compiled function serves all of a structure."""

from dataclasses import dataclass
from types import ModuleType

import sympy

from planner.costs import symbols as s
from planner.costs.devices import component, roofline
from planner.costs.functions import Smaller
from planner.costs.layers import dense_ffn, gated_delta, gqa, mla, moe_ffn, nsa, sliding, sparse_mla
from planner.costs.memory.stage import stage_layers, stage_share

ATTENTION: dict[str, ModuleType] = {
    "gqa": gqa, "sliding": sliding, "mla": mla, "sparse_mla": sparse_mla, "gated_delta": gated_delta,
    "nsa": nsa,
}  # fmt: skip
FFN: dict[str, ModuleType] = {"dense": dense_ffn, "moe": moe_ffn}
DEVICES: dict[str, ModuleType] = {"roofline": roofline, "component": component}


@dataclass(frozen=True, slots=True)
class Structure:
    """The kinds of attention and feed-forward layers of a model, and how the device turns work into time."""

    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    device: str = "roofline"

    @property
    def kinds(self) -> tuple[ModuleType, ...]:
        """The modules of all layer kinds, attention first."""
        return (*self.attention_kinds, *self.ffn_kinds)

    @property
    def attention_kinds(self) -> tuple[ModuleType, ...]:
        """The modules of the attention kinds."""
        return tuple(ATTENTION[kind] for kind in self.attention)

    @property
    def ffn_kinds(self) -> tuple[ModuleType, ...]:
        """The modules of the feed-forward kinds."""
        return tuple(FFN[kind] for kind in self.ffn)

    @property
    def machine(self) -> ModuleType:
        """The module that turns work into seconds."""
        return DEVICES[self.device]


def in_stage(kind: ModuleType) -> sympy.Expr:
    """Layers of a kind in the fullest stage of ⌈L/p⌉ layers.

    Kinds of attention alternate, so each has its share. Dense layers come first: a later stage has experts only, as far
    as there are layers with experts.
    """
    experts = Smaller(moe_ffn.COUNT, stage_layers())
    if kind is moe_ffn:
        return experts
    if kind is dense_ffn:
        return stage_layers() - experts
    return kind.COUNT * stage_share()


def drafting(kind: ModuleType, kinds: tuple[ModuleType, ...]) -> sympy.Expr:
    """Layers of a kind in the model's draft module: it repeats the last kind listed (attention, feed-forward)."""
    return s.draft_layers if kind is kinds[-1] else sympy.Integer(0)
