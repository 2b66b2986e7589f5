"""What operators and layers are made of: work, before any device has turned it into time."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s

ZERO = sympy.Integer(0)
ONE = sympy.Integer(1)


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of one engine step on one device of one pipeline stage (mean values; counts may be fractions).

    ``tokens``: rows of every matrix product of an attention rank. ``decoding``: requests of the rank that produce
    tokens, each with ``queries`` rows (more than one where drafts are verified), and ``decode_context``: cached tokens
    each of them reads. ``prefill``: prompt tokens in the step. ``prefill_context``: cached tokens each of those attends
    to, on average. ``prefill_cached``: tokens of keys and values read once for the whole prompt part.
    ``logit_rows``: rows of the head's product. ``group_tokens``: tokens of all attention ranks, which share experts.
    ``spread``: standard deviation of ``tokens`` from step to step.
    """

    tokens: sympy.Expr
    decoding: sympy.Expr
    queries: sympy.Expr
    decode_context: sympy.Expr
    prefill: sympy.Expr
    prefill_context: sympy.Expr
    prefill_cached: sympy.Expr
    logit_rows: sympy.Expr
    group_tokens: sympy.Expr
    spread: sympy.Expr = ZERO


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of one kind: how they are stored [byte per value], multiplied [flop/s], and the shares reached."""

    weight_bytes: sympy.Expr
    rate: sympy.Expr
    mfu: sympy.Expr
    mbu: sympy.Expr


ATTENTION_WEIGHTS = Part(s.attention_weight_bytes, s.attention_flops, s.mfu_projections, s.mbu_projections)
FFN_WEIGHTS = Part(s.ffn_weight_bytes, s.ffn_flops, s.mfu_ffn, s.mbu_ffn)
EXPERT_WEIGHTS = Part(s.expert_weight_bytes, s.expert_flops, s.mfu_experts, s.mbu_experts)
UNQUANTISED = Part(s.activation_bytes, s.bf16_flops, s.mfu_head, s.mbu_activations)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes one device sends over the links of a group, and the latency [s] of the messages."""

    near_bytes: sympy.Expr = ZERO
    near_rate: sympy.Expr = s.tp_bandwidth
    far_bytes: sympy.Expr = ZERO
    far_rate: sympy.Expr = s.tp_far_bandwidth
    latency: sympy.Expr = ZERO


SILENT = Traffic()


@dataclass(frozen=True, slots=True)
class Operator:
    """Work of one operator on one device.

    ``flops`` [flop] of matrix products run at ``part.rate`` × ``part.mfu``; ``vector_flops`` [flop] of element-wise
    work on the vector units; ``hbm_bytes`` [byte] move at the device's bandwidth × ``part.mbu``, and ``weight_bytes``
    [byte] of them are weights; ``hand_off_bytes`` [byte] pass between matrix and vector units where those are separate
    cores; ``traffic`` crosses links. ``launched``: 1, or 0 where a fusion makes this part of its neighbour's kernel.
    ``occupancy``: share of the cores that have a block to work on.
    """

    name: str
    flops: sympy.Expr = ZERO
    part: Part = UNQUANTISED
    vector_flops: sympy.Expr = ZERO
    hbm_bytes: sympy.Expr = ZERO
    weight_bytes: sympy.Expr = ZERO
    hand_off_bytes: sympy.Expr = ZERO
    traffic: Traffic = SILENT
    launched: sympy.Expr = ONE
    occupancy: sympy.Expr = ONE


@dataclass(frozen=True, slots=True)
class Layer:
    """Operators that run one after the other, and the least time [s] they take in a captured graph.

    The floor is shared out equally over the operators; a fusion takes away the share of what it swallows.
    """

    name: str
    operators: tuple[Operator, ...]
    floor: sympy.Expr = ZERO

    def launch_floor(self) -> sympy.Expr:
        """Return the floor of the kernels that are left after fusions [s]."""
        launched = sum((operator.launched for operator in self.operators), ZERO)
        return self.floor * launched / len(self.operators)


class Definitions:
    """Named intermediate results, in the order they are computed; the generated code stays readable with them."""

    def __init__(self) -> None:
        self.items: dict[sympy.Symbol, sympy.Expr] = {}

    def __call__(self, name: str, expression: sympy.Expr) -> sympy.Symbol:
        """Name an expression, and return its symbol."""
        symbol = sympy.Symbol(name, nonnegative=True)
        self.items[symbol] = expression
        return symbol


@dataclass(frozen=True, slots=True)
class Expressions:
    """Figures by name, and the intermediate results they are written in."""

    definitions: dict[sympy.Symbol, sympy.Expr]
    outputs: dict[str, sympy.Expr]

    def expanded(self, name: str) -> sympy.Expr:
        """Return one figure in terms of the symbol table alone."""
        expression = self.outputs[name]
        for symbol, definition in reversed(self.definitions.items()):
            expression = expression.xreplace({symbol: definition})
        return expression
