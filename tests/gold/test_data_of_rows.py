"""Models that papers ran and this project does not ship: written down from their papers, held against their size."""

from pathlib import Path

import pytest

from planner.catalog import load_architecture
from planner.columns.census import census

DATA = Path(__file__).parent / "data"
SIZES = {
    "mistral-7b": (7.24e9, 0.001),
    "yi-34b": (34.39e9, 0.001),
    "gpt3-175b": (175e9, 0.005),
    # A gated stand-in with as many weights as its plain feed-forward layer: 2·4h² = 3·h·I at I = 8h/3.
    "falcon-180b": (180e9, 0.01),
}


@pytest.mark.parametrize("name", SIZES)
def test_its_size_is_the_published_one(name):
    parameters, tolerance = SIZES[name]
    found = census(load_architecture(str(DATA / f"{name}.json")).value)["parameters"]
    assert found == pytest.approx(parameters, rel=tolerance)


def test_every_model_is_listed():
    assert {path.stem for path in DATA.glob("*.json")} == set(SIZES)
