"""The keys that scenarios of published systems add: their defaults, their faults, and what a report says of them."""

from pathlib import Path

import pytest

from planner import InputError, api

ROWS = Path(__file__).parents[2] / "scenarios" / "rows"


@pytest.mark.parametrize(
    ("scenario", "change", "message"),
    [
        (
            "orca",
            "workloads.chat.output_range=[128 token, 1 token]",
            "must go up, with a mean of output_tokens, 64 token",
        ),
        (
            "orca",
            "workloads.chat.output_range=[1 token, 256 token]",
            "must go up, with a mean of output_tokens, 64 token",
        ),
        ("orca", "models.chat.max_model_len=384 token", "requests of 400 token exceed the model's limit of 384 token"),
        ("orca", "engine.scheduler.policy=greedy", "must be one of 'iteration', 'request' (got 'greedy')"),
        ("orca", "engine.scheduler.reserve=none", "must be one of 'paged', 'longest' (got 'none')"),
        ("nsa", "models.long.architecture=DeepSeek-V3", "DeepSeek-V3 has no layer of full attention to replace"),
        ("nsa", "models.long.sparse_attention.kind=dsa", "must be 'nsa' (got 'dsa')"),
        ("nsa", "models.long.sparse_attention.stride=1", "must be at least 2 (got 1)"),
        ("flash_attention", "models.long.attention_kernel=flash4", "must be one of 'standard', 'flash1', 'flash2'"),
        ("speculative_sampling", "models.chat.speculative.acceptance=[1.5]", "must be at most 1 (got 1.5)"),
        ("speculative_sampling", "models.chat.speculative.k=4", "unknown field; known: acceptance, draft_time"),
        ("distserve", "search.roles=[prefill]", "prefill and decode go together: a request needs both"),
        (
            "disaggregation_crossing",
            "links=[{between: [h100, a100], bandwidth: 6 GB/s}]",
            "no inventory 'a100' in this scenario",
        ),
    ],
)
def test_faults_are_named(scenario, change, message):
    with pytest.raises(InputError) as error:
        api.load_scenario(ROWS / f"{scenario}.yaml", [change])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("scheduler", "whole"),
    [
        ("{}", False),
        ("{policy: request}", True),
        ("{policy: request, reserve: paged}", False),
        ("{reserve: longest}", True),
    ],
)
def test_request_level_batches_reserve_the_longest_unless_told_otherwise(scheduler, whole):
    case = api.load_scenario(ROWS / "orca.yaml", [f"engine.scheduler={scheduler}"])
    assert case.scenario.engine[0].scheduler.reserves_longest is whole


@pytest.mark.parametrize(
    ("scenario", "change", "line"),
    [
        ("component_roofline", "name=x", "compute (Cube) "),
        ("nsa", "name=x", "kernels   32 nsa layers with FlashAttention-2, "),
        (
            "orca",
            "engine.scheduler.policy=request",
            "batches   chat-mixed-1: a request generates in ",
        ),
        ("paged_attention", "engine.scheduler.reserve=longest", "16.1% of the reserved KV cache holds tokens"),
        ("speculative_sampling", "search.roles=[mixed]", " drafts)"),
        ("distserve", "search.roles=[prefill, decode]", "routes    chat-prefill-1 to chat-decode-1: "),
    ],
)
def test_a_report_shows_the_system(scenario, change, line):
    text = api.report_text(api.solve(api.load_scenario(ROWS / f"{scenario}.yaml", [change])))
    assert line in text


def test_a_spread_of_outputs_says_nothing_where_requests_leave_at_once():
    plans = [
        api.solve(api.load_scenario(ROWS / "orca.yaml", changes)).plan
        for changes in ([], ["workloads.chat.output_range=null"])
    ]
    assert plans[0].objective == plans[1].objective
