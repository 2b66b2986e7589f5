"""The table of symbols against the expressions that use it: complete, unique, and homogeneous in its units."""

import dataclasses
import functools
from fractions import Fraction

import pytest
import sympy

from planner.catalog import architecture_names, load_architecture
from planner.costs import disaggregated
from planner.costs import symbols as s
from planner.costs.closed_loop import loop_expressions
from planner.costs.closed_network import network_expressions
from planner.costs.devices import component, roofline
from planner.costs.functions import Either, Larger, Smaller, both, either
from planner.costs.memory import activations, kv_cache, weights
from planner.costs.serving import expressions
from planner.costs.step import chunk_batch, decode_batch, draft_seconds, stage_step, timed_layers
from planner.costs.structure import ATTENTION, DEVICES, FFN, Structure
from planner.costs.symbols import ARGUMENTS, SYMBOLS, UNITS
from planner.costs.transfer import transfer
from planner.costs.work import Definitions, Expressions, Operator
from planner.table import FIGURES, RESOURCES


def structures():
    """Those of the shipped architectures, and of any kind of layer that none of them has, on every kind of device."""
    shipped = [load_architecture(name).value for name in architecture_names()]
    found = {(tuple(sorted(a.attention_layers)), tuple(sorted(a.ffn_layers))) for a in shipped}
    attention, ffn = ({kind for kinds in side for kind in kinds} for side in zip(*found, strict=True))
    found |= {((kind,), ("dense",)) for kind in set(ATTENTION) - attention}
    found |= {(("gqa",), (kind,)) for kind in set(FFN) - ffn}
    return [Structure(*kinds, device) for kinds in sorted(found) for device in DEVICES]


def named(structure):
    return "+".join((*structure.attention, *structure.ffn, structure.device))


STRUCTURES = structures()
of_every_structure = pytest.mark.parametrize("structure", STRUCTURES, ids=named)
# Three kinds of steps: where batches differ, so do the operators' expressions.
BATCHES = {
    "decode": decode_batch(s.padded_batch, s.running),
    "chunk": chunk_batch(s.token_budget - s.running / s.pp),
    "last": chunk_batch(s.token_budget, s.dp * s.token_budget, decoding=sympy.Integer(0), last=True),
}
TABLE = {entry.symbol for entry in SYMBOLS}
# What names promise of figures and of intermediate results; the checker derives units from what is behind them.
PROMISED = (
    ("byte", ("_bytes", "_bytes_per_token", "_bytes_per_request")),
    ("1/s", ("rate",)),
    ("s", ("_step", "_mean", "_time", "_service", "_seconds", "ttft", "tpot", "itl", "tpot_steady")),
    ("s", tuple(f"_{resource}" for resource in RESOURCES)),
)
# Fields of operators, and of what they hold.
FIELDS = (("byte/s", ("near_rate", "far_rate")), ("flop/s", ("rate",)), ("flop", ("flops",)), ("byte", ("_bytes",)))
FIELDS += (("s", ("latency",)),)


def promised(name, units=PROMISED):
    """The unit that a name ends with, or begins with; a count where it does neither."""
    begins = {"byte_": "byte", "time_": "s", "wait": "s"}
    return next((unit for unit, ends in units if name.endswith(ends)), begins.get(name[:5], "1"))


@functools.cache
def expressions_of(structure):
    return expressions(structure)


@functools.cache
def results(structure):
    """Figures of a replica, and of moving a prompt's cache from one pool to another, by name."""
    outputs = expressions_of(structure).outputs
    moved = transfer(structure, outputs["prompt_seconds"], outputs["rate"])
    return outputs | {f"{TRANSFER[name]}{name}": getattr(moved, name) for name in TRANSFER}


@functools.cache
def checker_of(structure):
    return Checker(definitions=expressions_of(structure).definitions)


@functools.cache
def timed(structure, batch):
    """Every kind of layer of a stage, with the times of its operators."""
    return list(timed_layers(structure, BATCHES[batch]))


# Prefixes that make the fields of a transfer say their unit.
TRANSFER = {"sent": "byte_", "received": "byte_", "held_prefill": "byte_", "held_decode": "byte_"}
TRANSFER |= {"seconds": "time_", "exposed": "time_"}

Dimension = frozenset  # of (base unit, exponent) pairs; empty for a number
ANY = None  # zero has every dimension


class UnitError(Exception):
    """Quantities that cannot be added, compared, or put into a function."""


def parse_unit(text):
    """Read units like '1', 's', 'byte/s', '1/s'.

    A flop is counted, like tokens and heads (it is 2·m·n·k of counts), so flop/s is 1/s.
    """
    over, *under = text.split("/")
    powers = {over: 1} | dict.fromkeys(under, -1)
    return Dimension((unit, Fraction(power)) for unit, power in powers.items() if unit not in ("1", "flop"))


class Checker:
    """Dimension of an expression, or UnitError; a definition has the dimension of what is behind it."""

    def __init__(self, units=UNITS, definitions=()):
        self.units = {name: parse_unit(unit) for name, unit in units.items()}
        self.known = {}
        for symbol, expr in dict(definitions).items():
            assert symbol.name not in self.units, f"{symbol} is defined twice"
            self.units[symbol.name] = self(expr)

    def __call__(self, expr):
        expr = sympy.sympify(expr)
        if expr not in self.known:
            self.known[expr] = self._dimension(expr)
        return self.known[expr]

    def _dimension(self, expr):
        if expr.is_Number:
            return ANY if expr == 0 else parse_unit("1")
        if expr.is_Symbol:
            return self.units[expr.name]
        if isinstance(expr, sympy.Add | Larger | Smaller):
            return self._same(expr, expr.args)
        if isinstance(expr, Either):
            flag, *branches = expr.args
            self(flag)  # of whatever unit, as long as it has one
            return self._same(expr, branches)
        if isinstance(expr, sympy.Mul):
            return self._product([(self(factor), Fraction(1)) for factor in expr.args])
        if isinstance(expr, sympy.Pow):
            if expr.exp.is_Rational:
                return self._product([(self(expr.base), Fraction(int(expr.exp.p), int(expr.exp.q)))])
            self._number(expr, expr.args)
            return parse_unit("1")
        if isinstance(expr, sympy.ceiling | sympy.floor | sympy.log):
            self._number(expr, expr.args)
            return parse_unit("1")
        if hasattr(expr, "expanded"):  # a function with a definition of its own
            return self(expr.expanded())
        msg = f"no rule for {type(expr).__name__}"
        raise UnitError(msg)

    def _same(self, expr, parts):
        found = {self(part) for part in parts} - {ANY}
        if len(found) > 1:
            msg = f"{[sorted(f) for f in found]} meet in {expr}"
            raise UnitError(msg)
        return found.pop() if found else ANY

    def _number(self, expr, parts):
        if any(self(part) not in (ANY, parse_unit("1")) for part in parts):
            msg = f"{expr} needs plain numbers"
            raise UnitError(msg)

    @staticmethod
    def _product(factors):
        powers = {}
        for dimension, exponent in factors:
            if dimension is ANY:
                return ANY
            for unit, power in dimension:
                powers[unit] = powers.get(unit, 0) + power * exponent
        return Dimension((unit, power) for unit, power in powers.items() if power)


def assert_unit(checker, expr, unit, *, zero_allowed=False):
    found = checker(expr)
    if found is ANY and zero_allowed:
        return
    assert found == parse_unit(unit), f"{sorted(found or ())} is not {unit}"


@of_every_structure
def test_every_free_symbol_is_in_the_table(structure):
    """A definition may use the table and what was defined before it; an output may use the table and all of them."""
    found = expressions_of(structure)
    known = set(TABLE)
    for symbol, expr in found.definitions.items():
        assert expr.free_symbols <= known, symbol
        assert symbol not in known, f"{symbol} hides another"
        known.add(symbol)
    for name, expr in found.outputs.items():
        assert expr.free_symbols <= known, name


@pytest.mark.parametrize("name", ["replica_rate", "prefill_load", "vector_seconds"])
def test_expanded_outputs_hold_nothing_but_the_table(name):
    found = expressions_of(Structure(("gqa",), ("dense",)))
    outputs = found.outputs | {symbol.name: symbol for symbol in found.definitions}
    expanded = Expressions(found.definitions, outputs).expanded(name)
    assert outputs[name].free_symbols - TABLE
    assert expanded.free_symbols <= TABLE


def test_expanding_substitutes_definitions_of_definitions():
    define = Definitions()
    inner = define("inner", s.isl + 1)
    outer = define("outer", inner**2)
    found = Expressions(define.items, {"x": outer / inner, "y": s.osl})
    assert found.expanded("x") == (s.isl + 1) ** 2 / (s.isl + 1)
    assert found.expanded("y") == s.osl


def test_every_entry_is_used_by_some_structure():
    every = [expr for structure in STRUCTURES for expr in all_of(structure)]
    assert TABLE - set().union(*(expr.free_symbols for expr in every)) == set()


@functools.cache
def all_of(structure):
    """Definitions that some output needs, and outputs; those of parts of pairs and of the transfer between, too."""
    parts = [needed_of(expressions_of(structure), results(structure))]
    parts += [needed_of(found, found.outputs) for found in (apart(structure, role) for role in APART)]
    loop = loop_expressions(structure)
    parts.append(needed_of(loop, loop.outputs))
    return [expr for part in parts for expr in part]


def needed_of(found, outputs):
    needed, exprs = set().union(*(expr.free_symbols for expr in outputs.values())), []
    for symbol, expr in reversed(found.definitions.items()):
        if symbol in needed:
            needed |= expr.free_symbols
            exprs.append(expr)
    return [*exprs, *outputs.values()]


def test_every_symbol_of_the_module_is_in_the_table_under_its_own_name():
    defined = {name: value for name, value in vars(s).items() if isinstance(value, sympy.Symbol)}
    assert {name: symbol.name for name, symbol in defined.items()} == {name: name for name in UNITS}


def test_names_and_latex_are_unique():
    names = [entry.symbol.name for entry in SYMBOLS]
    assert len(set(names)) == len(names) == len(ARGUMENTS)
    assert list(ARGUMENTS) == sorted(names)
    latex = [entry.latex for entry in SYMBOLS]
    assert len(set(latex)) == len(latex)


@pytest.mark.parametrize("entry", SYMBOLS, ids=lambda entry: entry.symbol.name)
def test_every_entry_says_unit_meaning_and_origin(entry):
    assert set(entry.unit.split("/")) <= {"1", "byte", "s", "flop"}
    assert entry.meaning.strip()
    assert entry.latex.strip()
    assert entry.origin in ("architecture", "precision", "configuration", "workload", "hardware", "efficiency")
    assert entry.symbol.is_nonnegative


@pytest.mark.parametrize("batch", BATCHES)
@of_every_structure
def test_operators_overlaps_and_floors_have_their_units(structure, batch):
    check = Checker()
    for layer in timed(structure, batch):
        for operator, seconds in layer.operators:
            for part in (operator, operator.part, operator.traffic):
                assert_fields(check, part, FIELDS)
            assert_fields(check, seconds, (("s", ("",)),))
        assert_unit(check, layer.saved, "s", zero_allowed=True)
        assert_unit(check, layer.layers, "1")
        assert_unit(check, layer.seconds, "s")
        assert_unit(check, layer.layer.floor, "s", zero_allowed=True)
        assert_unit(check, layer.layer.launch_floor(), "s", zero_allowed=True)


def assert_fields(check, part, units):
    for field in dataclasses.fields(part):
        found = getattr(part, field.name)
        if isinstance(found, sympy.Expr):
            assert_unit(check, found, promised(field.name, units), zero_allowed=True)


@pytest.mark.parametrize("captured", [sympy.Integer(1), sympy.Integer(0), s.captured], ids=str)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("structure", STRUCTURES[::3], ids=named)
def test_steps_are_times(structure, batch, captured):
    check = Checker()
    step = stage_step(structure, BATCHES[batch], captured=captured, draft=s.drafts * draft_seconds(structure))
    assert_unit(check, step.total, "s")
    assert list(step.resources) == list(RESOURCES)
    for expr in step.resources.values():
        assert_unit(check, expr, "s", zero_allowed=True)


@of_every_structure
def test_memory_terms(structure):
    check = Checker()
    for size in (
        weights.device_bytes(structure),
        activations.bytes_per_token(structure),
        activations.bytes_per_request(),
        kv_cache.token_bytes(structure),
        kv_cache.request_bytes(structure, kv_cache.mean_tokens()),
        kv_cache.likely_bytes(structure, s.running, s.occupancy_sigmas),
    ):
        assert_unit(check, size, "byte")
    for count in (
        kv_cache.blocks(s.isl),
        weights.total_parameters(structure),
        weights.active_parameters(structure),
    ):
        assert_unit(check, count, "1")


@of_every_structure
def test_outputs_and_definitions_have_the_units_their_names_promise(structure):
    check = checker_of(structure)
    for name, expr in results(structure).items():
        # only keys and values that prefill expands from a latent need a workspace
        nothing = name == "context_workspace_bytes" and "mla" not in structure.attention
        assert (check(expr) is ANY) == nothing, name
        assert_unit(check, expr, promised(name), zero_allowed=nothing)
    for symbol in expressions_of(structure).definitions:
        assert_unit(check, symbol, promised(symbol.name), zero_allowed=True)


# Figures of a part of a pair that are zero, whatever the load; of a transfer, units that its names do not say.
APART = {"decode": disaggregated.decode_expressions, "prefill": disaggregated.prefill_expressions}
APART["transfer"] = disaggregated.transfer_expressions
APART["network"] = network_expressions
NOTHING = {
    "decode": {"prefill_load", "prefill_inflow", "prompt_seconds"},
    "prefill": {"tpot", "itl", "swaps", "prefill_inflow", "preempts"},
    "transfer": set(),
    "network": set(),
}
MOVED = {"seconds": "s", "least": "s", "behind": "1", "bytes": "byte"}


@functools.cache
def apart(structure, role):
    return APART[role](structure)


@pytest.mark.parametrize("role", APART)
@of_every_structure
def test_figures_of_parts_of_pairs_have_the_units_their_names_promise(structure, role):
    found = apart(structure, role)
    check = Checker(definitions=found.definitions)
    for name, expr in found.outputs.items():
        nothing = name in NOTHING[role] or (name == "context_workspace_bytes" and "mla" not in structure.attention)
        assert (check(expr) is ANY) == nothing, name
        assert_unit(check, expr, MOVED[name] if role == "transfer" else promised(name), zero_allowed=nothing)
    for symbol in found.definitions:
        assert_unit(check, symbol, promised(symbol.name), zero_allowed=True)


@pytest.mark.parametrize("role", ["decode", "prefill"])
def test_parts_of_pairs_have_every_figure_that_a_table_takes_from_the_costs(role):
    structure = Structure(("gqa",), ("dense",))
    read = {name for name in FIGURES if name in expressions_of(structure).outputs}
    assert read <= set(apart(structure, role).outputs)


@pytest.mark.parametrize("role", APART)
@of_every_structure
def test_parts_of_pairs_use_the_table_and_definitions_made_before(structure, role):
    found = apart(structure, role)
    known = set(TABLE)
    for symbol, expr in found.definitions.items():
        assert expr.free_symbols <= known, symbol
        assert symbol not in known, f"{symbol} hides another"
        known.add(symbol)
    for name, expr in found.outputs.items():
        assert expr.free_symbols <= known, name


def test_names_promise_units():
    """Spot checks of the rule above, so that it does not call a time a count."""
    promises = {"rate": "1/s", "itl": "s", "kv_likely_bytes": "byte", "slots_needed": "1", "decode_hbm_bandwidth": "s"}
    promises |= {"activations_bytes_per_token": "byte", "prefill_load": "1", "compute_seconds": "s", "stretch": "1"}
    assert {name: promised(name) for name in promises} == promises


def test_the_unit_of_a_definition_is_that_of_what_is_behind_it():
    define = Definitions()
    sizes = define("sizes", s.expert_weight_bytes * s.isl)
    assert Checker(definitions=define.items)(sizes / s.hbm_bandwidth) == parse_unit("s")
    define("wrong", sizes + s.host_step)
    with pytest.raises(UnitError):
        Checker(definitions=define.items)


NONSENSE = Operator("flop that are bytes", flops=s.kv_bytes, hbm_bytes=s.kv_bytes)


@pytest.mark.parametrize(
    "planted",
    [
        s.host_step + s.ffn_flops,
        s.host_step + s.layers,
        s.expert_weight_bytes + s.hbm_bandwidth,
        Larger(s.host_step, s.tp_bandwidth),
        Smaller(s.expert_weight_bytes, s.isl),
        sympy.ceiling(s.host_step),
        sympy.floor(s.host_step),
        sympy.log(s.kv_bytes, 2),
        s.isl**s.host_step,
        s.host_step**s.isl,
        either(s.pp - 1, s.host_step, s.layers),
        either(s.host_step - s.kv_bytes, s.host_step, s.eager_floor),
        both(s.host_step, s.ffn_flops),
        roofline.seconds(NONSENSE).total,
        component.seconds(NONSENSE).total,
        component.seconds(Operator("hand-off counted in tokens", hand_off_bytes=s.isl, hbm_bytes=s.kv_bytes)).total,
        sympy.sin(s.host_step),
    ],
    ids=str,
)
def test_the_checker_refuses_a_planted_error(planted):
    with pytest.raises(UnitError):
        Checker()(planted)


def test_the_checker_knows_what_a_rate_is():
    check = Checker()
    assert_unit(check, s.expert_weight_bytes / s.hbm_bandwidth, "s")
    assert_unit(check, either(s.host_step, s.isl, 0), "1")
    assert_unit(check, Larger(0, Smaller(s.host_step, s.isl / s.ffn_flops)), "s")
    assert_unit(check, sympy.cbrt(s.host_step**3 + (s.isl / s.ffn_flops) ** 3), "s")
    with pytest.raises(AssertionError):
        assert_unit(check, s.expert_weight_bytes, "s")


@pytest.mark.parametrize("name", [name for name, unit in UNITS.items() if unit != "1"])
def test_a_wrong_unit_of_one_symbol_is_noticed(name):
    """Each unit in the table matters: were one symbol a plain count, some output would not come out right."""
    units = UNITS | {name: "byte" if UNITS[name] != "byte" else "1"}

    def wrong(structure):
        network = apart(structure, "network")
        return inconsistent(expressions_of(structure).definitions, results(structure)) or inconsistent(
            network.definitions, network.outputs
        )

    def inconsistent(definitions, outputs):
        try:
            check = Checker(units, definitions)
            return any(check(expr) != parse_unit(promised(output)) for output, expr in outputs.items())
        except UnitError:
            return True

    using = (structure for structure in STRUCTURES if uses(structure, name))
    assert any(wrong(structure) for structure in using)


def uses(structure, name):
    symbol = sympy.Symbol(name, nonnegative=True)
    return any(symbol in expr.free_symbols for expr in all_of(structure))
