"""Gold figures of published systems: one table per row, read by the row's test."""

from pathlib import Path

import pytest
import sympy
import yaml

from planner import api
from planner.costs import symbols as s

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Gold:
    """The table of one row; ``check`` holds our value against the published one."""

    def __init__(self, path, checked):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.figures, self.ablations, self.inputs = table["figures"], table["ablations"], table.get("inputs", {})
        self.scenario = ROOT / "scenarios" / f"{table['scenario']}.yaml"
        self._checked = checked  # what reports of a run may show

    def check(self, name, ours):
        figure = self.figures[name]
        published, tolerance = figure["published"], figure["tolerance"]
        self._checked.append((name, float(ours)))
        bound = figure.get("bound")
        if bound == "at least":
            assert ours >= published * (1 - tolerance), (name, ours, published)
        elif bound == "at most":
            assert ours <= published * (1 + tolerance), (name, ours, published)
        else:
            assert ours == pytest.approx(published, rel=tolerance, abs=0), (name, ours, published)

    def solve(self, *overrides):
        return api.solve(self.case(*overrides)).plan

    def case(self, *overrides):
        return api.load_scenario(self.scenario, overrides)

    def ablated(self, name):
        return self.solve(*self.ablations[name]["set"])


@pytest.fixture
def gold(request):
    """The table beside the test: row12.yaml for test_row12_flash_attention.py."""
    return Gold(HERE / f"{request.path.stem.split('_')[1]}.yaml", request.node.user_properties)


@pytest.fixture(scope="session")
def number():
    """Return a function that puts values for symbols into an expression; fails while a symbol is left over."""

    def evaluated(expression, **known):
        found = sympy.sympify(expression).subs({getattr(s, name): value for name, value in known.items()})
        assert not found.free_symbols, found.free_symbols
        return float(found)

    return evaluated


@pytest.fixture
def variant(tmp_path):
    """Return a function that writes a shipped device with other values at places like "memory.bandwidth.value"."""

    def written(name, changes):
        data = yaml.safe_load((ROOT / "hardware_specs" / f"{name}.yaml").read_text(encoding="utf-8"))
        for place, value in changes.items():
            *above, last = place.split(".")
            node = data
            for key in above:
                node = node[int(key)] if isinstance(node, list) else node[key]
            assert last in node
            node[last] = value
        path = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return written


@pytest.fixture(scope="session")
def data():
    """The folder of architectures and devices that are not shipped."""
    return HERE / "data"
