"""What operators and layers are made of: work, before any device has turned it into time."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s

ZERO = sympy.Integer(0)


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of one engine step on one pipeline stage (mean values; counts may be fractions).

    ``tokens``: rows of every matrix product. ``decoding``: requests that produce a token.
    ``decode_context``: cached tokens each of them reads. ``prefill``: prompt tokens in the step.
    ``prefill_context``: cached tokens each of those attends to, on average. ``prefill_cached``: tokens of
    keys and values read once for the whole prompt part. ``logit_rows``: rows of the head's product.
    """

    tokens: sympy.Expr
    decoding: sympy.Expr
    decode_context: sympy.Expr
    prefill: sympy.Expr
    prefill_context: sympy.Expr
    prefill_cached: sympy.Expr
    logit_rows: sympy.Expr


@dataclass(frozen=True, slots=True)
class Operator:
    """Work of one operator on one device.

    ``flops`` [flop] run at ``rate`` [flop/s] × ``mfu``; ``hbm_bytes`` [byte] move at the device's
    bandwidth × ``mbu``; ``link_bytes`` [byte] cross a link of ``link_rate`` [byte/s]; ``link_latency`` [s]
    is paid once.
    """

    name: str
    flops: sympy.Expr = ZERO
    rate: sympy.Expr = s.bf16_flops
    mfu: sympy.Expr = s.mfu_head
    hbm_bytes: sympy.Expr = ZERO
    mbu: sympy.Expr = s.mbu_activations
    link_bytes: sympy.Expr = ZERO
    link_rate: sympy.Expr = s.tp_bandwidth
    link_latency: sympy.Expr = ZERO


@dataclass(frozen=True, slots=True)
class Layer:
    """Operators that run one after the other, and the least time [s] they take in a captured graph."""

    name: str
    operators: tuple[Operator, ...]
    floor: sympy.Expr = ZERO


class Definitions:
    """Named intermediate results, in the order they are computed.

    Later expressions hold a name instead of the whole expression behind it: SymPy compares the arguments of Max
    and Min, which takes minutes on nested steps, and the generated code stays readable.
    """

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
