"""Shared settings: hypothesis draws the same examples in every run, and tests share one private code cache."""

import functools
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
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
    from planner.costs import codegen, compile, disaggregated, serving
    from planner.costs.structure import Structure
    from planner.costs.work import Expressions

    @functools.cache
    def kernel(attention, ffn, device, role):
        expressions = {
            "mixed": serving.expressions,
            "prefill": disaggregated.prefill_expressions,
            "decode": disaggregated.decode_expressions,
        }
        definitions = expressions[role](Structure(attention, ffn, device)).definitions
        return compile._execute(codegen.source(Expressions(definitions, {str(name): name for name in definitions})))

    def evaluated(setting, axes):
        with mock.patch.object(evaluate, "compiled", kernel):
            return evaluate.figures(setting, axes)

    return evaluated


@pytest.fixture(scope="session")
def setting_of():
    """Return a function that gives the setting of a shipped architecture on a shipped device, in its vendor's engine.

    ``changes`` are fields of a scenario, like those of ``--set``.
    """
    from planner.catalog import load_hardware, load_scenario
    from planner.columns.setting import settings

    @functools.cache
    def made(model, hardware="h100-sxm", isl=3000, osl=300, changes=()):
        engine = "vllm-ascend" if load_hardware(hardware).value.vendor == "Huawei" else "vllm"
        fixed = [f"models.chat.architecture={model}", f"inventory.h100.hardware={hardware}"]
        fixed += ["models.chat.precisions=[bf16]", "models.chat.max_model_len=16384 token"]
        fixed += [f"engine={{name: {engine}}}", f"workloads.chat.input_tokens={isl} token"]
        fixed += [f"workloads.chat.output_tokens={osl} token", "search.roles=[mixed]", "calibration=textbook"]
        scenario = Path(__file__).parents[1] / "scenarios" / "quickstart.yaml"
        (setting,) = settings(load_scenario(scenario, [*fixed, *changes]))
        return setting

    return made


@pytest.fixture(scope="session")
def axes_of():
    """Return a function that gives axes of one configuration in bf16 on one device, where not said otherwise."""
    from planner.table import FORMAT_NAMES

    def made(**axes):
        plain = {"tp": 1, "pp": 1, "ep": 1, "mean_running": 8, "max_num_batched_tokens": 2048}
        bf16 = FORMAT_NAMES.index("bf16")
        chosen = {"weight_precision": bf16, "kv_precision": bf16, **plain, **axes}
        return {name: np.atleast_1d(np.asarray(value, dtype=np.float64)) for name, value in chosen.items()}

    return made


@pytest.fixture(scope="session")
def solved():
    """Return a function that solves a scenario file with some settings, each question once per session."""
    from planner import pipeline
    from planner.catalog import load_scenario

    @functools.cache
    def made(path, settings=()):
        return pipeline.solve(load_scenario(path, settings))

    return made


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")
    parser.addoption("--update-docs", action="store_true", help="write documented outputs and generated pages anew")
