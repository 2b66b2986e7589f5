"""The published search grid: every variable, its default values, and why these.

"Optimal" always means: over the product of these values, or of what a scenario's ``search`` puts in their
place. Shown by ``planner grid``; the table in docs/reference/grid.md is generated from here.
"""

from typing import NamedTuple

from planner.columns.setting import Setting
from planner.schema.search import Search
from planner.table import FORMAT_NAMES, POLICIES
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
_UTILISATION = (*range(4, 60, 4), *range(60, 91, 2))
_MANY_EXPERTS = 64
# Of a TTFT limit, what may be set aside for the decode part of a pair: at most 25 % more than it needs.
TTFT_SHARES = tuple(0.01 * 1.25**step for step in range(21))

GRID: tuple[Variable, ...] = (
    Variable(
        "role",
        ("mixed", "prefill", "decode"),
        "search.roles",
        "what a replica does",
        "all that the engine can separate; prefill and decode replicas are bought together",
    ),
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
        "attention_dp",
        (1, 2, 4, 8, 16, 32),
        "search.attention_dp",
        "attention ranks of a replica that serve different requests; only 1 for a model without experts",
        "without experts to share, ranks are replicas",
    ),
    Variable(
        "ep",
        (1, 2, 4, 8, 16, 32, 64, 128, 256),
        "search.ep",
        "expert-parallel degree; only 1 for a model without experts",
        "most engines spread experts over the whole group, tp × attention_dp",
    ),
    Variable(
        "context_parallel",
        (),
        "search.context_parallel",
        "devices of a tensor-parallel group that share a request's cache while decoding",
        "the engine's; 1 where a replica only prefills",
    ),
    Variable(
        "redundant_experts",
        (0, 32),
        "search.redundant_experts",
        "copies of hot experts per layer",
        f"0 below {_MANY_EXPERTS} experts or where the engine cannot; 32 is what DeepSeek-V3's own prefill used",
    ),
    Variable("block_size", (), "search.block_size", "tokens of a KV cache block", "the engine's default"),
    Variable(
        "prefill_policy",
        (),
        "search.prefill_policies",
        "whether prompts share steps with decodes, and whether they are cut",
        "all the engine has",
    ),
    Variable(
        "overlaps",
        (),
        "search.overlaps",
        "fusions and overlaps that the engine has and leaves off",
        "as the engine sets them: what the others would gain is assumed, not measured; with `any`, each alone and all",
    ),
    Variable(
        "mean_running",
        _RUNNING,
        "search.mean_running",
        "requests decoding on average in an attention rank at full rate: how hard it is run",
        "steps of at most 6 % from 16 on",
    ),
    Variable(
        "prefill_utilisation",
        _UTILISATION,
        "search.prefill_utilisation",
        "share of its time [%] that a prefill replica works: how hard it is run",
        "up to where a mean wait says little (prefill_load_limit of the calibration)",
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
_DEFAULTS = {variable.name: variable.values for variable in GRID}

DERIVED: tuple[tuple[str, str], ...] = (
    (
        "max_num_seqs",
        f"the smallest of {runs(SEQUENCE_LIMITS)} that is rarely reached at that load; "
        "search.max_num_seqs restricts it",
    ),
    ("max_num_batched_tokens", "of a replica that only decodes: the smallest that covers max_num_seqs and its drafts"),
    ("graph_capture_sizes", "the engine's, up to max_num_seqs and its drafts"),
    (
        "ttft_allotted",
        "of a TTFT limit, what a decode replica is set aside: the smallest of 1 %, 1.25 %, 1.56 %, … that covers its "
        "first token; the prefill replica and the transfer have the rest",
    ),
    ("kv_fraction", "what weights, activations and the reserve leave: nothing else wants that memory"),
    ("moe_tp", "tp × attention_dp / ep"),
    ("replicas", "chosen by the solver, not searched"),
)


def searched_values(setting: Setting) -> dict[str, tuple[int | str, ...]]:
    """Return the values of every grid variable for one setting, in the order of ``GRID``; overlaps are bits."""
    search, role = setting.search, setting.role
    own = (setting.architecture.precision,)
    chosen: dict[str, tuple[int | str, ...]] = {
        "role": (role,),
        "weight_precision": (setting.model.precisions if setting.model else None) or own,
        "kv_precision": search.kv_precisions or _DEFAULTS["kv_precision"],
        "tp": search.tp or _DEFAULTS["tp"],
        "pp": search.pp or _DEFAULTS["pp"],
        **_expert_values(setting),
        "context_parallel": _one_if(
            role == "prefill", search.context_parallel or setting.engine.context_parallel.value
        ),
        "block_size": search.block_size or (setting.engine.block_size.value,),
        "prefill_policy": _policies(setting),
        "overlaps": _overlaps(setting),
        "mean_running": (0,) if role == "prefill" else search.mean_running or _DEFAULTS["mean_running"],
        "prefill_utilisation": _utilisations(setting),
        "max_num_batched_tokens": search.max_num_batched_tokens or _DEFAULTS["max_num_batched_tokens"],
        "speculative_tokens": (0,) if role == "prefill" else search.speculative_tokens or _drafts(setting),
    }
    return {variable.name: chosen[variable.name] for variable in GRID}


def _one_if(alone: bool, values: tuple[int, ...]) -> tuple[int, ...]:
    return (1,) if alone else values


def _expert_values(setting: Setting) -> dict[str, tuple[int | str, ...]]:
    search, experts = setting.search, setting.architecture.num_experts
    copies: tuple[int | str, ...] = (0,)
    if experts >= _MANY_EXPERTS and setting.engine.redundant_experts.value and setting.expert_load.hot_share > 0:
        copies = _DEFAULTS["redundant_experts"]
    none: tuple[int | str, ...] = (1,)
    return {
        "attention_dp": search.attention_dp or (_DEFAULTS["attention_dp"] if experts else none),
        "ep": search.ep or (_DEFAULTS["ep"] if experts else none),
        "redundant_experts": search.redundant_experts or copies,
    }


def _policies(setting: Setting) -> tuple[str, ...]:
    """Return the policies worth trying: a decode replica has no prompts, a prefill replica only cuts them or not."""
    asked, known = setting.search.prefill_policies, setting.engine.scheduling.policies.value
    if setting.role == "decode":
        return known[:1]
    able = [policy for policy in known if asked is None or policy in asked]
    if setting.role == "prefill":
        whole = [policy for policy in able if policy.endswith("whole")]
        chunked = [policy for policy in able if policy.endswith("chunked")]
        return (*chunked[:1], *whole[:1])
    return tuple(able)


def _overlaps(setting: Setting) -> tuple[int, ...]:
    """Return bits over ``Pool.optional``: none, each alone, all."""
    count = len(setting.pool.optional)
    if setting.search.overlaps != "any":
        return (0,)
    return tuple(sorted({0, *(1 << bit for bit in range(count)), (1 << count) - 1}))


def _utilisations(setting: Setting) -> tuple[int | str, ...]:
    if setting.role != "prefill":
        return (0,)
    most = setting.efficiencies.scheduling.prefill_load_limit.value * 100
    usual = tuple(value for value in _UTILISATION if value <= most)
    return setting.search.prefill_utilisation or usual


def _drafts(setting: Setting) -> tuple[int, ...]:
    return tuple(range(len(setting.speculative.acceptance) + 1))


def sequence_limits(search: Search) -> tuple[int, ...]:
    """Return the values max_num_seqs may take."""
    return search.max_num_seqs or SEQUENCE_LIMITS


def encode(axis: str, value: object) -> float:
    """Return a value of an axis as a number: precisions and policies by their place in the list of all."""
    if axis.endswith("_precision"):
        return float(FORMAT_NAMES.index(str(value)))
    return float(POLICIES.index(str(value))) if axis == "prefill_policy" else float(str(value))
