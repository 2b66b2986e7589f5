"""Shared settings: hypothesis draws the same examples in every run, and tests share one private code cache."""

import functools
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_CACHE = Path(tempfile.gettempdir()) / f"planner-test-cache-{os.getuid() if hasattr(os, 'getuid') else 0}"


@pytest.fixture(scope="session", autouse=True)
def private_code_cache():
    _CACHE.mkdir(mode=0o700, exist_ok=True)
    before = os.environ.get("PLANNER_CACHE_DIR")
    os.environ["PLANNER_CACHE_DIR"] = str(_CACHE)
    yield
    if before is None:
        del os.environ["PLANNER_CACHE_DIR"]
    else:
        os.environ["PLANNER_CACHE_DIR"] = before


@pytest.fixture(scope="session")
def inside():
    """Return a function that evaluates intermediate results of the cost model, by name, for arrays of axes."""
    from planner.columns import evaluate
    from planner.costs import codegen, compile, serving
    from planner.costs.structure import Structure
    from planner.costs.work import Expressions

    @functools.cache
    def kernel(attention, ffn):
        definitions = serving.expressions(Structure(attention, ffn)).definitions
        return compile._execute(codegen.source(Expressions(definitions, {str(name): name for name in definitions})))

    def evaluated(setting, axes):
        with mock.patch.object(evaluate, "compiled", kernel):
            return evaluate.figures(setting, axes)

    return evaluated


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")
    parser.addoption("--update-docs", action="store_true", help="write documented outputs and generated pages anew")
