"""Operators of one step as numbers: what each does, what that takes, and what bounds it. Imports SymPy."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import sympy

from planner.costs import symbols as s
from planner.costs.devices.seconds import Seconds
from planner.costs.functions import Either
from planner.costs.operators.collective import all_gather, all_reduce, exchange
from planner.costs.operators.gemm import linear
from planner.costs.operators.moe import hottest_touched_experts, imbalance
from planner.costs.step import TimedLayer, draft_seconds, timed_layers
from planner.costs.structure import DEVICES, Structure
from planner.costs.tiles import Tiled
from planner.costs.transfer import transfer
from planner.costs.work import ATTENTION_WEIGHTS, UNQUANTISED, Batch, Operator

Values = Mapping[str, float]
# The batch's own symbols keep formulas readable; see ``Batch`` for their meaning.
_BATCH_SYMBOLS = tuple(sympy.Symbol(name, nonnegative=True) for name in Batch.__dataclass_fields__)
BATCH = Batch(*_BATCH_SYMBOLS)
# Statistics of experts would fill a page in every formula that holds them.
_NAMED = {
    hottest_touched_experts(BATCH.group_tokens): sympy.Symbol("touched_experts", nonnegative=True),
    imbalance(BATCH.group_tokens): sympy.Symbol("imbalance", nonnegative=True),
}
_NAMED_LATEX = dict(zip(_NAMED.values(), (r"E^{\ast}", r"\iota"), strict=True))
_NAMED_LATEX |= {symbol: rf"\text{{{symbol.name}}}".replace("_", r"\_") for symbol in _BATCH_SYMBOLS}
_FLAGS = tuple(entry.symbol for entry in s.SYMBOLS if entry.is_flag)
_BOUNDS = ("compute", "vector", "hbm", "link", "latency")


class OperatorCost(NamedTuple):
    """One operator of one layer on one device.

    ``formulas``: flop, byte of device memory and byte sent over links, as text and as LaTeX by name; a part that is
    zero is left out. ``amounts`` are their values. ``seconds``: its time, and by resource.
    """

    layer: str
    layers: float
    operator: str
    formulas: dict[str, str]
    latex: dict[str, str]
    amounts: dict[str, float]
    seconds: float
    by_resource: dict[str, float]

    @property
    def bound_by(self) -> str:
        """The resource that would need longest alone."""
        return max(self.by_resource, key=lambda name: self.by_resource[name])


class LayerCost(NamedTuple):
    """One kind of layer: how many in a stage, its operators, what overlaps save and what launches add, each [s]."""

    layer: str
    layers: float
    operators: tuple[OperatorCost, ...]
    saved: float
    floor: float

    @property
    def seconds(self) -> float:
        """Time of one layer in a captured graph [s]."""
        return sum(cost.seconds for cost in self.operators) - self.saved + self.floor


def number(expression: sympy.Expr, values: Values) -> float:
    """Return the value of an expression.

    Raises:
        KeyError: a symbol has no value.
    """
    known = {symbol: sympy.Float(values[symbol.name]) for symbol in expression.free_symbols}
    return float(expression.xreplace(known))


def step_costs(structure: Structure, values: Values) -> tuple[LayerCost, ...]:
    """Return the kinds of layers a stage has; ``values`` gives every symbol and every field of the batch a number."""
    kinds = (_layer(timed, values) for timed in timed_layers(structure, BATCH))
    return tuple(kind for kind in kinds if kind.layers > 0)


def draft_cost(structure: Structure, values: Values) -> float:
    """Return the time of a step's drafts [s]."""
    return number(s.drafts * draft_seconds(structure), values)


def _layer(timed: TimedLayer, values: Values) -> LayerCost:
    layers = number(timed.layers, values)
    operators = [_operator(timed.layer.name, layers, operator, time, values) for operator, time in timed.operators]
    return LayerCost(
        layer=timed.layer.name,
        layers=layers,
        operators=tuple(cost for cost in operators if cost.seconds > 0),
        saved=number(timed.saved, values),
        floor=number(timed.layer.launch_floor(), values),
    )


def _operator(layer: str, layers: float, operator: Operator, time: Seconds, values: Values) -> OperatorCost:
    work = {
        "flop": operator.flops,
        "vector flop": operator.vector_flops,
        "byte": operator.hbm_bytes,
        "link byte": operator.traffic.near_bytes + operator.traffic.far_bytes,
        "latency": operator.traffic.latency,
    }
    amounts = {name: number(expression, values) for name, expression in work.items()}
    present = {name: expression for name, expression in work.items() if amounts[name]}
    named = {name: _applied(expression.xreplace(_NAMED), values) for name, expression in present.items()}
    latex_names = _NAMED_LATEX | {entry.symbol: entry.latex for entry in s.SYMBOLS}
    return OperatorCost(
        layer=layer,
        layers=layers,
        operator=operator.name,
        formulas={name: _text(expression) for name, expression in named.items()},
        latex={name: sympy.latex(expression, symbol_names=latex_names) for name, expression in named.items()},
        amounts={name: amounts[name] for name in present},
        seconds=number(time.total, values),
        by_resource={name: number(getattr(time, name), values) for name in _BOUNDS},
    )


def _applied(expression: sympy.Expr, values: Values) -> sympy.Expr:
    """Return an expression as it applies: the branches that are taken, flags as 0 or 1."""
    while expression.has(Either):
        innermost = next(e for e in sympy.postorder_traversal(expression) if isinstance(e, Either))
        flag, yes, no = innermost.args
        expression = expression.xreplace({innermost: yes if number(flag, values) > 0 else no})
    return expression.xreplace(
        {symbol: sympy.Integer(int(values[symbol.name])) for symbol in _FLAGS if symbol.name in values}
    )


def _text(expression: sympy.Expr) -> str:
    return str(expression.replace(Tiled, lambda rows, *_: sympy.Function("tiles")(rows)))


def seconds_of(operator: Operator, device: str, values: Values) -> float:
    """Return the time of one operator on a kind of device [s]."""
    return number(DEVICES[device].seconds(operator).total, values)


def gemm_seconds(device: str, values: Values, m: int, k: int, n: int) -> float:
    """Return the time of an m×k by k×n product at the attention weights' precision [s]."""
    product = linear("product", sympy.Integer(m), sympy.Integer(k), sympy.Integer(n), ATTENTION_WEIGHTS)
    return seconds_of(product, device, values)


def collective_seconds(device: str, values: Values, operation: str, size: float) -> float:
    """Return the time of a collective whose full vector has ``size`` byte, over the tensor-parallel group [s]."""
    kinds: dict[str, Callable[[str, sympy.Expr], Operator]] = {
        "all_reduce": all_reduce, "all_gather": all_gather, "reduce_scatter": all_gather,
    }  # fmt: skip
    return seconds_of(kinds[operation](operation, sympy.Float(size)), device, values)


def exchange_seconds(device: str, values: Values, tokens: float, value_bytes: float) -> float:
    """Return the time to send ``tokens`` per device to their experts, or back [s]."""
    group = sympy.Float(tokens) * s.tp * s.dp
    return seconds_of(exchange("exchange", sympy.Float(value_bytes), group, s.hidden), device, values)


def read_seconds(device: str, values: Values, size: float) -> float:
    """Return the time to read ``size`` byte of device memory once [s]."""
    return seconds_of(Operator("read", hbm_bytes=sympy.Float(size), part=UNQUANTISED), device, values)


def transfer_costs(structure: Structure, values: Values, prefill_seconds: float, rate: float) -> dict[str, float]:
    """Return the figures of ``transfer`` by name, for a prompt and a rate of prompts [1/s]."""
    moved = transfer(structure, sympy.Float(prefill_seconds), sympy.Float(rate))
    return {name: number(getattr(moved, name), values) for name in type(moved).__dataclass_fields__}
