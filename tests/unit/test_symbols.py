"""The table of symbols against the expressions that use it: complete, unique, and homogeneous in its units."""

from fractions import Fraction

import pytest
import sympy

from planner.costs import symbols as s
from planner.costs.devices.roofline import seconds
from planner.costs.layers import head
from planner.costs.memory import activations, kv_cache, weights
from planner.costs.operators.collective import send
from planner.costs.serving import expressions
from planner.costs.step import chunk_batch, decode_batch, stage_step
from planner.costs.structure import ATTENTION, FFN, Structure
from planner.costs.symbols import ARGUMENTS, SYMBOLS, UNITS
from planner.costs.work import Definitions, Expressions, Operator
from planner.table import RESOURCES

STRUCTURES = [Structure(attention, ffn) for attention in ATTENTION for ffn in FFN]
BATCHES = {
    "decode": decode_batch(s.padded_batch, s.running),
    "chunk": chunk_batch(s.token_budget - s.running / s.pp),
}
EXPRESSIONS = {structure.ffn_kind: expressions(structure) for structure in STRUCTURES}
TABLE = {entry.symbol for entry in SYMBOLS}
OUTPUT_UNITS = {
    "rate": "1/s",
    "tpot": "s",
    "ttft": "s",
    "in_flight": "1",
    "prefill_load": "1",
    "prefill_inflow": "1",
    "prefill_budget": "1",
    "slots_needed": "1",
    "kv_likely_tokens": "1",
    "compute_seconds": "s",
    "hbm_bandwidth_seconds": "s",
    "link_bandwidth_seconds": "s",
    "latency_seconds": "s",
    "host_seconds": "s",
    "weights_bytes": "byte",
    "activations_bytes_per_token": "byte",
    "activations_bytes_per_request": "byte",
    "kv_bytes_per_token": "byte",
    "kv_tokens_per_request": "1",
    "parameters": "1",
    "active_parameters": "1",
}
# What the names of the intermediate results promise; the checker derives the unit of each from what is behind it.
PROMISED = (
    ("s", ("_step", "_mean", "_time", "_service", *(f"_{resource}" for resource in RESOURCES))),
    ("1", ("_budget", "_inflow", "_share", "_load", "chunk", "stretch", "elasticity", "dispersion", "prefilling")),
    ("1/s", ("_rate",)),
)

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
        if isinstance(expr, sympy.Add | sympy.Max | sympy.Min):
            return self._same(expr, expr.args)
        if isinstance(expr, sympy.Mul):
            return self._product([(self(factor), Fraction(1)) for factor in expr.args])
        if isinstance(expr, sympy.Pow):
            if expr.exp.is_Rational:
                return self._product([(self(expr.base), Fraction(int(expr.exp.p), int(expr.exp.q)))])
            self._number(expr, expr.args)
            return parse_unit("1")
        if isinstance(expr, sympy.ceiling | sympy.log):
            self._number(expr, expr.args)
            return parse_unit("1")
        if isinstance(expr, sympy.Piecewise):
            return self._piecewise(expr)
        msg = f"no rule for {type(expr).__name__}"
        raise UnitError(msg)

    def _piecewise(self, expr):
        for _, condition in expr.args:
            if condition != sympy.true:
                self._same(condition, condition.args)
        return self._same(expr, [value for value, _ in expr.args])

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


def operators(structure, batch):
    """Every operator of a stage."""
    layers = (structure.attention.layer(batch), structure.ffn.layer(batch), head.layer(batch))
    found = [operator for layer in layers for operator in layer.operators]
    return [*found, send("send", batch.tokens * s.hidden * s.activation_bytes)]


CASES = [
    pytest.param(operator, id=f"{structure.ffn_kind}-{name}-{operator.name}")
    for structure in STRUCTURES
    for name, batch in BATCHES.items()
    for operator in operators(structure, batch)
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_every_free_symbol_is_in_the_table(structure):
    """A definition may use the table and what was defined before it; an output may use the table and all of them."""
    found = EXPRESSIONS[structure.ffn_kind]
    known = set(TABLE)
    for symbol, expr in found.definitions.items():
        assert expr.free_symbols <= known, symbol
        assert symbol not in known, f"{symbol} hides another"
        known.add(symbol)
    for name, expr in found.outputs.items():
        assert expr.free_symbols <= known, name


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_expanded_outputs_hold_nothing_but_the_table(structure):
    found = EXPRESSIONS[structure.ffn_kind]
    for name in ("rate", "prefill_load", *(f"{resource}_seconds" for resource in RESOURCES)):
        assert found.expanded(name).free_symbols <= TABLE, name


def test_expanding_substitutes_definitions_of_definitions():
    define = Definitions()
    inner = define("inner", s.isl + 1)
    outer = define("outer", inner**2)
    found = Expressions(define.items, {"x": outer / inner, "y": s.osl})
    assert found.expanded("x") == (s.isl + 1) ** 2 / (s.isl + 1)
    assert found.expanded("y") == s.osl


def test_every_entry_is_used_by_some_structure():
    every = [expr for found in EXPRESSIONS.values() for expr in all_of(found)]
    assert set().union(*(expr.free_symbols for expr in every)) & TABLE == TABLE


def all_of(found):
    """Definitions that some output needs, and outputs."""
    needed, exprs = set().union(*(expr.free_symbols for expr in found.outputs.values())), []
    for symbol, expr in reversed(found.definitions.items()):
        if symbol in needed:
            needed |= expr.free_symbols
            exprs.append(expr)
    return [*exprs, *found.outputs.values()]


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


@pytest.mark.parametrize("operator", CASES)
def test_operator_units(operator):
    check = Checker()
    assert_unit(check, operator.flops, "flop", zero_allowed=True)
    assert_unit(check, operator.hbm_bytes, "byte", zero_allowed=True)
    assert_unit(check, operator.link_bytes, "byte", zero_allowed=True)
    assert_unit(check, operator.link_latency, "s", zero_allowed=True)
    assert_unit(check, operator.rate, "flop/s")
    assert_unit(check, operator.link_rate, "byte/s")
    assert_unit(check, operator.mfu, "1")
    assert_unit(check, operator.mbu, "1")
    assert_unit(check, seconds(operator).total, "s", zero_allowed=True)


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_layer_floors_are_times(structure):
    for layer in (structure.attention.layer(BATCHES["decode"]), structure.ffn.layer(BATCHES["decode"])):
        assert_unit(Checker(), layer.floor, "s")
    assert head.layer(BATCHES["decode"]).floor == 0


@pytest.mark.parametrize("captured", [sympy.Integer(1), sympy.Integer(0), s.captured], ids=str)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_steps_are_times(structure, batch, captured):
    check = Checker()
    step = stage_step(structure, BATCHES[batch], captured=captured)
    assert_unit(check, step.total, "s")
    for expr in step.resources.values():
        assert_unit(check, expr, "s")


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_memory_terms(structure):
    check = Checker()
    assert_unit(check, weights.device_bytes(structure), "byte")
    assert_unit(check, activations.bytes_per_token(structure), "byte")
    assert_unit(check, activations.bytes_per_request(), "byte")
    assert_unit(check, kv_cache.bytes_per_token(structure), "byte")
    for count in (
        kv_cache.blocks(s.isl),
        kv_cache.likely_tokens(s.running, s.occupancy_sigmas),
        weights.total_parameters(structure),
        weights.active_parameters(structure),
    ):
        assert_unit(check, count, "1")


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_serving_outputs_have_their_units(structure):
    found = EXPRESSIONS[structure.ffn_kind]
    assert set(found.outputs) == set(OUTPUT_UNITS)
    check = Checker(definitions=found.definitions)
    for name, expr in found.outputs.items():
        assert_unit(check, expr, OUTPUT_UNITS[name])


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.ffn_kind)
def test_definitions_have_the_units_their_names_promise(structure):
    found = EXPRESSIONS[structure.ffn_kind]
    check = Checker(definitions=found.definitions)
    for symbol in found.definitions:
        (unit,) = [unit for unit, ends in PROMISED if symbol.name.endswith(ends)]
        assert_unit(check, symbol, unit)


def test_the_unit_of_a_definition_is_that_of_what_is_behind_it():
    define = Definitions()
    sizes = define("sizes", s.weight_bytes * s.isl)
    assert Checker(definitions=define.items)(sizes / s.hbm_bandwidth) == parse_unit("s")
    define("wrong", sizes + s.host_step)
    with pytest.raises(UnitError):
        Checker(definitions=define.items)


@pytest.mark.parametrize(
    "planted",
    [
        s.host_step + s.gemm_flops,
        s.host_step + s.layers,
        s.weight_bytes + s.hbm_bandwidth,
        sympy.Max(s.host_step, s.tp_bandwidth),
        sympy.Min(s.weight_bytes, s.isl),
        sympy.ceiling(s.host_step),
        sympy.log(s.kv_bytes, 2),
        s.isl**s.host_step,
        s.host_step**s.isl,
        sympy.Piecewise((s.host_step, s.pp <= 1), (s.layers, True)),
        sympy.Piecewise((s.host_step, s.pp <= s.kv_bytes), (s.eager_floor, True)),
        sympy.cbrt(s.host_step**3 + s.gemm_flops**3),
        seconds(Operator("rate is a bandwidth", flops=s.hidden, rate=s.hbm_bandwidth, hbm_bytes=s.kv_bytes)).total,
        sympy.sin(s.host_step),
    ],
    ids=str,
)
def test_the_checker_refuses_a_planted_error(planted):
    with pytest.raises(UnitError):
        Checker()(planted)


def test_the_checker_knows_what_a_rate_is():
    check = Checker()
    assert_unit(check, s.weight_bytes / s.hbm_bandwidth, "s")
    assert_unit(check, sympy.cbrt(s.host_step**3 + (s.isl / s.gemm_flops) ** 3), "s")
    with pytest.raises(AssertionError):
        assert_unit(check, s.weight_bytes, "s")


@pytest.mark.parametrize("name", [name for name, unit in UNITS.items() if unit != "1"])
def test_a_wrong_unit_of_one_symbol_is_noticed(name):
    """Each unit in the table matters: were one symbol a plain count, some output would not come out right."""
    units = UNITS | {name: "byte" if UNITS[name] != "byte" else "1"}

    def wrong(found):
        try:
            check = Checker(units, found.definitions)
            return any(check(expr) != parse_unit(OUTPUT_UNITS[output]) for output, expr in found.outputs.items())
        except UnitError:
            return True

    assert any(wrong(found) for found in EXPRESSIONS.values())
