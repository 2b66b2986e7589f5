"""The published search grid: every variable, its default values, and why these.

"Optimal" always means: over the product of these values, or of what a scenario's ``search`` puts in their
place. Shown by ``planner grid``; the table in docs/reference/grid.md is generated from here.
"""

from typing import NamedTuple

from planner.schema.architecture import Architecture
from planner.schema.scenario import Search, ServedModel
from planner.text import runs


class Variable(NamedTuple):
    """One searched variable. ``scenario_field`` is where a scenario restricts it."""

    name: str
    values: tuple[int | str, ...]
    scenario_field: str
    meaning: str
    reason: str


# At most 6 % apart, so that a plan is at most that far below the best load between two values.
_RUNNING = (*range(1, 33), *range(34, 65, 2), *range(68, 129, 4), *range(136, 257, 8), *range(272, 513, 16))
# The batch sizes vLLM captures graphs for (planner/engines/vllm.yaml), and some beyond them for short requests.
SEQUENCE_LIMITS = (2, 4, *range(8, 256, 8), *range(256, 513, 16), 640, 768, 896, 1024)

GRID: tuple[Variable, ...] = (
    Variable("role", ("mixed",), "search.roles", "what a replica does", "prefill and decode share every replica"),
    Variable(
        "weight_precision",
        (),
        "models.NAME.precisions",
        "format of the weights",
        "the checkpoint's own, unless the scenario accepts others: fewer bits may cost quality",
    ),
    Variable("kv_precision", ("bf16",), "search.kv_precisions", "format of the KV cache", "lossless by default"),
    Variable(
        "tp",
        (1, 2, 4, 8, 16),
        "search.tp",
        "tensor-parallel degree",
        "powers of two divide the usual head counts",
    ),
    Variable("pp", (1, 2, 4, 8), "search.pp", "pipeline stages", "deeper pipelines rarely pay in serving"),
    Variable(
        "ep",
        (1, 2, 4, 8, 16),
        "search.ep",
        "expert-parallel degree; only 1 for a model without experts",
        "all degrees of tp, since engines spread experts over the whole group",
    ),
    Variable(
        "mean_running",
        _RUNNING,
        "search.mean_running",
        "requests decoding on average in a replica at its full rate: how hard it is run",
        "steps of at most 6 % from 16 on",
    ),
    Variable(
        "max_num_batched_tokens",
        (512, 1024, 2048, 4096, 8192, 16384),
        "search.max_num_batched_tokens",
        "most tokens of a step: the chunk budget",
        "doublings around the engines' defaults of 2048 and 8192",
    ),
    Variable(
        "speculative_tokens",
        (0,),
        "search.speculative_tokens",
        "draft tokens verified per request and step",
        "none, unless the scenario gives the model drafts: then none up to as many as it gives acceptances",
    ),
)

DERIVED: tuple[tuple[str, str], ...] = (
    (
        "max_num_seqs",
        f"the smallest of {runs(SEQUENCE_LIMITS)} that is rarely reached at that load; "
        "search.max_num_seqs restricts it",
    ),
    ("kv_fraction", "what weights, activations and the reserve leave: nothing else wants that memory"),
    ("moe_tp", "tp × attention_dp / ep"),
    ("attention_dp", "1 in this version"),
    ("block_size", "the engine's default"),
    ("replicas", "chosen by the solver, not searched"),
)


def searched_values(search: Search, model: ServedModel, architecture: Architecture) -> dict[str, tuple[int | str, ...]]:
    """Return the values of every grid variable for one scenario, in the order of ``GRID``."""
    chosen: dict[str, tuple[int | str, ...] | None] = {
        "role": search.roles,
        "weight_precision": model.precisions or (architecture.precision,),
        "kv_precision": search.kv_precisions,
        "tp": search.tp,
        "pp": search.pp,
        "ep": search.ep or (None if architecture.num_experts else (1,)),
        "mean_running": search.mean_running,
        "max_num_batched_tokens": search.max_num_batched_tokens,
        "speculative_tokens": search.speculative_tokens or _drafts(model),
    }
    return {variable.name: chosen[variable.name] or variable.values for variable in GRID}


def _drafts(model: ServedModel) -> tuple[int, ...] | None:
    return tuple(range(len(model.speculative.acceptance) + 1)) if model.speculative else None


def sequence_limits(search: Search) -> tuple[int, ...]:
    """Return the values max_num_seqs may take."""
    return search.max_num_seqs or SEQUENCE_LIMITS
