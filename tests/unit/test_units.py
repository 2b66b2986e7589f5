"""Quantities are text with a unit at every border."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.units import (
    BYTES,
    BYTES_PER_SECOND,
    DIMENSIONS,
    FLOP_PER_SECOND,
    REQUESTS_PER_SECOND,
    SECONDS,
    TOKENS,
    USD_PER_HOUR,
    WATTS,
    format_quantity,
    parse_quantity,
)

FINITE = st.floats(-1e290, 1e290)  # beyond any quantity, and below where a change of unit overflows


@given(st.sampled_from(DIMENSIONS), FINITE)
def test_format_then_parse_gives_the_same_number(dimension, value):
    assert parse_quantity(format_quantity(value, dimension), dimension) == value


@given(st.sampled_from(DIMENSIONS), st.integers(0, 10**15), st.data())
def test_every_unit_scales_by_its_factor(dimension, number, data):
    unit, factor = data.draw(st.sampled_from(sorted(dimension.factors.items())))
    expected = pytest.approx(number * factor, rel=1e-15)
    assert parse_quantity(f"{number} {unit}", dimension) == expected
    assert parse_quantity(f"  {number}{unit} ", dimension) == expected


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda d: d.name)
def test_base_unit_and_example_parse(dimension):
    assert parse_quantity(f"1 {dimension.unit}", dimension) == 1
    assert parse_quantity(dimension.example, dimension) > 0


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("80 GB", BYTES, 80e9),
        ("80 GiB", BYTES, 80 * 2**30),
        ("1 KiB", BYTES, 1024),
        ("1 kB", BYTES, 1000),
        ("3.35 TB/s", BYTES_PER_SECOND, 3.35e12),
        ("1.6 TiB/s", BYTES_PER_SECOND, 1.6 * 2**40),
        ("989.4 TFLOP/s", FLOP_PER_SECOND, 989.4e12),
        ("1978.9 TOP/s", FLOP_PER_SECOND, 1978.9e12),
        ("40 ms", SECONDS, 0.04),
        ("6 us", SECONDS, 6e-6),
        ("6 µs", SECONDS, 6e-6),
        ("2 min", SECONDS, 120),
        ("1.5 h", SECONDS, 5400),
        ("0.7 kW", WATTS, 700),
        ("2.50 USD/h", USD_PER_HOUR, 2.5),
        ("2.50 $/h", USD_PER_HOUR, 2.5),
        ("12 /s", REQUESTS_PER_SECOND, 12),
        ("120 requests/min", REQUESTS_PER_SECOND, 2),
        ("3_000 token", TOKENS, 3000),
        ("1e3 tokens", TOKENS, 1000),
        (".5 s", SECONDS, 0.5),
        ("-1 s", SECONDS, -1),
    ],
)
def test_known_quantities(text, dimension, expected):
    assert parse_quantity(text, dimension) == pytest.approx(expected, rel=1e-15)


def test_gigabytes_and_gibibytes_differ_by_seven_percent():
    assert parse_quantity("80 GiB", BYTES) / parse_quantity("80 GB", BYTES) == pytest.approx(1.073741824)


@pytest.mark.parametrize("dimension", DIMENSIONS, ids=lambda d: d.name)
@pytest.mark.parametrize("bare", [80, 3.35])
def test_a_bare_number_is_refused_with_an_example_that_parses(dimension, bare):
    with pytest.raises(ValueError, match="needs a unit") as caught:
        parse_quantity(bare, dimension)
    example = str(caught.value).split("'")[1]
    assert example.startswith(f"{bare:g} ")
    parse_quantity(example, dimension)


@pytest.mark.parametrize(
    "wrong", ["80", "", "GB", "80 gb", "80 GBs", "80 s", "eighty GB", "1,5 GB", "1 2 GB", True, None, [], "nan GB"]
)
def test_what_is_not_a_size_is_refused_with_an_example(wrong):
    with pytest.raises(ValueError, match="80 GiB"):
        parse_quantity(wrong, BYTES)


def test_what_overflows_is_refused():
    with pytest.raises(ValueError, match="too large"):
        parse_quantity("1e308 TB", BYTES)


@given(st.sampled_from(DIMENSIONS), st.sampled_from(DIMENSIONS), st.data())
def test_units_of_another_dimension_are_refused(dimension, other, data):
    unit = data.draw(st.sampled_from(sorted(other.factors)))
    if unit in dimension.factors:
        assert math.isclose(parse_quantity(f"3 {unit}", dimension), 3 * dimension.factors[unit])
    else:
        with pytest.raises(ValueError, match="write it like"):
            parse_quantity(f"3 {unit}", dimension)
