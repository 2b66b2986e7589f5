"""What the shipped engines are said to do by default, and since when."""

import typing
from itertools import pairwise

import pytest

from planner import catalog
from planner.schema.base import Sourced
from planner.schema.engine import FusionName

MIB = 2**20
ENGINES = {name: catalog.load_engine(name).value for name in catalog.engine_names()}
FUSIONS = [(name, fusion) for name, engine in ENGINES.items() for fusion in engine.fusions]


def release(version):
    """Return a version as numbers, which compare as versions do and text does not: 0.5.9 before 0.5.23."""
    return tuple(int(part) for part in version.split("."))


def test_the_engines_of_measured_rows_are_known_by_the_same_names():
    assert set(ENGINES) >= {"vllm", "vllm-ascend", "sglang", "trtllm", "mindie"}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_captured_sizes_ascend_from_one(engine):
    sizes = engine.graph_capture_sizes.value
    assert sizes[0] == 1
    assert all(left < right for left, right in pairwise(sizes))


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_fact_names_sources_of_its_file(engine):
    groups = (engine, engine.scheduling, engine.memory, engine.disaggregation)
    facts = [fact for group in groups for _, fact in group if isinstance(fact, Sourced)]
    assert len(facts) > 10
    for fact in (*facts, *engine.fusions.values(), *engine.rules):
        assert set(fact.source) <= set(engine.sources)
        assert fact.note


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_the_first_of_several_choices_is_the_default(engine):
    schedule = engine.scheduling
    cut = "chunked" if schedule.chunked_prefill.value else "whole"
    assert schedule.policies.value[0] == f"{schedule.prefill.value}_{cut}"
    assert engine.block_sizes.value[0] == engine.block_size.value
    assert engine.context_parallel.value[0] == 1
    for choices in (schedule.policies, engine.block_sizes, engine.context_parallel):
        assert len(set(choices.value)) == len(choices.value)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_nothing_began_after_the_version_read(engine):
    dated = (*engine.fusions.values(), *engine.rules, *engine.restrictions)
    graphs = engine.whole_graphs_since
    since = [engine.scheduling.host_overlap_since, graphs and graphs.value, *(fact.since for fact in dated)]
    newest = max(map(release, engine.versions))
    assert all(release(version) <= newest for version in since if version)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_only_an_engine_that_overlaps_says_since_when(engine):
    assert engine.scheduling.host_overlap.value == (engine.scheduling.host_overlap_since is not None)


@pytest.mark.parametrize(("name", "fusion"), FUSIONS)
def test_a_fusion_says_where_it_takes_effect(name, fusion):
    assert ENGINES[name].fusions[fusion].condition


def test_every_fusion_is_one_that_some_engine_has():
    assert {fusion for _, fusion in FUSIONS} == set(typing.get_args(FusionName))


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_what_is_sent_to_experts_is_known_for_every_precision_served(engine):
    sent = engine.dispatch_bytes.value
    assert set(sent) == set(engine.weight_precisions.value)
    assert sent["bf16"] == 2
    assert all(0.5 <= size <= 2 for size in sent.values())


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_memory_beside_weights_and_cache_is_a_small_part_of_a_device(engine):
    """Orders of magnitude: a slip of 1000 in a file would show here."""
    sizes = [taken for name, taken in engine.memory if name != "latent_context"]
    assert all(taken is None or 10 * MIB <= taken.value <= 4096 * MIB for taken in sizes)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_context_is_expanded_a_few_prompts_at_a_time(engine):
    """Tokens, not bytes: more than a step's budget, fewer than the longest prompts together."""
    tokens = engine.memory.latent_context
    assert tokens is None or 2**13 <= tokens.value <= 2**18


def test_an_ascend_communicator_keeps_two_buffers():
    """One to send and one to receive; HCCL's own are 200 MiB, MindIE makes them 128."""
    assert ENGINES["vllm-ascend"].memory.communication.value >= 2 * 200 * MIB
    assert ENGINES["mindie"].memory.communication.value >= 2 * 128 * MIB
