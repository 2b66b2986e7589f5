"""What the tests of operators share: numbers for expressions, and small batches."""

import numpy
import pytest
import sympy

from planner.costs import codegen, compile
from planner.costs import symbols as s
from planner.costs.structure import Structure
from planner.costs.work import ZERO, Batch, Expressions

# One device, one token per step, nothing fused or overlapped, and none of what only some models have.
NEUTRAL = {entry.symbol.name: 0.0 for entry in s.SYMBOLS if entry.meaning.startswith("1 where")}
NEUTRAL |= dict.fromkeys(("tp", "pp", "dp", "ep", "cp", "accepted", "mixed_steps", "norm_vectors", "hot_load"), 1.0)
NEUTRAL |= dict.fromkeys(("drafts", "draft_layers", "draft_seconds", "redundant_experts", "hot_share"), 0.0)
NEUTRAL |= dict.fromkeys(("qk_norm_width", "attention_bias_width", "positions", "shared_width"), 0.0)
NEUTRAL |= dict.fromkeys(("tp_far_latency", "ep_far_latency"), 0.0)
NEUTRAL |= dict.fromkeys(("tp_far_bandwidth", "ep_far_bandwidth", "tile_rows", "least_tile_rows"), 1.0)
# Fusions and overlaps take effect in steps of any size, once they are on.
NEUTRAL |= {name: 1e18 if name.endswith("_most") else 0.0 for name in s.UNITS if name.endswith(("_most", "_least"))}
NEUTRAL |= {"moe_layers": 0.0, "sparse_head_tile": 1.0, "context_workspace": 0.0}
# FlashAttention on a device of one core, as if heads and tiles always filled it.
NEUTRAL |= {"quantise_floor": 0.0, "host_exposed": 0.0, "step_scale": 1.0, "ttft_scale": 1.0}
NEUTRAL |= {"norms": 2.0, "score_passes": 0.0, "sequence_blocks": 1.0, "cores": 1.0}


def _value(expr, **known):
    """The number an expression has; symbols not given must be neutral ones, and a group is within one domain."""
    expr = sympy.sympify(expr)
    if expr.is_number:
        return float(expr)
    tp, dp = (numpy.asarray(known.get(name, 1.0), dtype=float) for name in ("tp", "dp"))
    given = NEUTRAL | {"tp_near": tp, "ep_near": tp * dp}
    given |= {name: numpy.asarray(number, dtype=float) for name, number in known.items()}
    missing = {symbol.name for symbol in expr.free_symbols} - set(given)
    assert not missing, missing
    with numpy.errstate(all="ignore"):
        found = compile._execute(codegen.source(Expressions({}, {"found": expr})))(**given)["found"]
    return float(found) if numpy.ndim(found) == 0 else found


@pytest.fixture(scope="session")
def value():
    return _value


@pytest.fixture(scope="session")
def one():
    """Return a function that finds the operator of a layer by its name."""

    def found(layer, name):
        (operator,) = [operator for operator in layer.operators if operator.name == name]
        return operator

    return found


@pytest.fixture(scope="session")
def batch_of():
    """Return a function that makes a batch of ``tokens`` rows; everything else is zero where not given."""

    def made(tokens, **fields):
        empty = dict.fromkeys(Batch.__dataclass_fields__, ZERO)
        rows = sympy.sympify(tokens)
        given = {name: sympy.sympify(number) for name, number in fields.items()}
        return Batch(**empty | {"tokens": rows, "logit_rows": rows, "group_tokens": rows} | given)

    return made


@pytest.fixture(scope="session")
def dense():
    return Structure(("gqa",), ("dense",))


@pytest.fixture(scope="session")
def moe():
    return Structure(("gqa",), ("moe",))
