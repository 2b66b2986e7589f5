"""Which configurations an engine accepts: its named rules by code, its restrictions read as data."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from planner.columns import conditions
from planner.columns.conditions import Values as Values
from planner.columns.setting import Setting
from planner.columns.values import at_least
from planner.recent import Recent
from planner.schema.base import Sourced
from planner.schema.engine import Applies, Conditions, Engine, Restriction

_GB = 1e9

# What no structure decides: these need the cost model or the limits that follow from it.
_BY_SIZE = (
    "budget_covers_sequences", "weights_do_not_fit", "longest_request_fits", "prefill_cannot_keep_up",
    "too_few_sequences", "kv_cache_too_small",
)  # fmt: skip


class LegalityRule(NamedTuple):
    """A rule with its meaning for people, a test on arrays (True = broken), and the numbers of one case."""

    name: str
    meaning: str
    broken: Callable[[Setting, Values], Any]
    detail: Callable[[Setting, Mapping[str, float]], str]
    by_limits: bool = False  # reads the limits on tokens and requests, or the number of drafts
    by_requests: bool = False  # reads the limit on requests, which only the cost model decides
    sources: tuple[str, ...] = ()  # keys of the engine's sources

    @property
    def structural(self) -> bool:
        """Whether degrees, formats, policy and block size alone decide: no limit, load, memory or time."""
        return self.name not in _BY_SIZE and not self.by_limits


def group(v: Values) -> Any:
    """Devices that share the experts."""
    return v["tp"] * v.get("attention_dp", np.ones(1))


def gigabytes(value: float) -> str:
    """Return a size as people read it."""
    return f"{value / _GB:.1f} GB"


def _widths_broken(s: Setting, v: Values) -> Any:
    if not s.architecture.num_experts:
        return s.architecture.intermediate_size % v["tp"] != 0
    return s.architecture.moe_intermediate_size % np.maximum(group(v) // v["ep"], 1) != 0


ENGINE_RULES: dict[str, LegalityRule] = {
    rule.name: rule
    for rule in (
        LegalityRule(
            "heads_divide_by_tp",
            "tp must divide the query heads",
            lambda s, v: s.architecture.num_attention_heads % v["tp"] != 0,
            lambda s, v: f"{s.architecture.num_attention_heads} heads, tp {v['tp']:.0f}",
        ),
        LegalityRule(
            "kv_heads_split_or_copy",
            "tp must divide the KV heads or be a multiple of them",
            lambda s, v: (
                (s.architecture.num_key_value_heads % v["tp"] != 0)
                & (v["tp"] % s.architecture.num_key_value_heads != 0)
            ),
            lambda s, v: f"{s.architecture.num_key_value_heads} KV heads, tp {v['tp']:.0f}",
        ),
        LegalityRule(
            "ep_is_one_or_all",
            "ep is 1 or the whole group: the engine spreads experts over all of it",
            lambda s, v: (v["ep"] != 1) & ((v["ep"] != group(v)) | (s.architecture.num_experts == 0)),
            lambda s, v: f"ep {v['ep']:.0f}, tp {v['tp']:.0f}, {s.architecture.num_experts} experts",
        ),
        LegalityRule(
            "experts_divide_by_ep",
            "ep must divide the experts where there are no copies of them",
            lambda s, v: (s.architecture.num_experts % v["ep"] != 0) & (v.get("redundant_experts", 0.0) == 0),
            lambda s, v: f"{s.architecture.num_experts} experts, ep {v['ep']:.0f}",
        ),
        LegalityRule(
            "widths_divide_by_tp",
            "tp (tp/ep for experts) must divide the feed-forward width",
            _widths_broken,
            lambda s, v: f"width {s.architecture.moe_intermediate_size or s.architecture.intermediate_size}",
        ),
        LegalityRule(
            "stage_has_a_layer",
            "every pipeline stage needs a layer",
            lambda s, v: v["pp"] > s.architecture.num_hidden_layers,
            lambda s, v: f"{s.architecture.num_hidden_layers} layers, pp {v['pp']:.0f}",
        ),
        LegalityRule(
            "budget_covers_sequences",
            "max_num_batched_tokens must be at least max_num_seqs",
            lambda s, v: v["max_num_batched_tokens"] < conditions.quantity(s, v, "seqs_per_rank"),
            lambda s, v: f"{v['max_num_batched_tokens']:.0f} tokens, {v['max_num_seqs']:.0f} requests",
        ),
        LegalityRule(
            "longest_request_fits",
            "the KV cache must hold one request of max_model_len",
            lambda s, v: v["kv_cache_bytes"] < v["kv_longest_request_bytes"],
            lambda s, v: (
                f"{gigabytes(v['kv_cache_bytes'])} left, "
                f"{gigabytes(v['kv_longest_request_bytes'])} needed for {s.max_model_len} tokens"
            ),
        ),
    )
}


_Read = tuple[tuple[Conditions | None, LegalityRule], ...]
_READ: Recent[tuple[Engine, _Read]] = Recent(16)  # with the engine that the key stands for


def engine_rules(setting: Setting) -> tuple[LegalityRule, ...]:
    """Return the rules of the setting's engine that hold for its version and may concern its model, device and role."""
    engine, version = setting.engine, setting.engine_version
    _, read = _READ.of((id(engine), version), lambda: (engine, _rules(engine, version)))
    return tuple(rule for when, rule in read if when is None or conditions.may_hold(when, setting))


def _rules(engine: Engine, version: str) -> _Read:
    """Return the rules of an engine's version, each with what must hold of a setting that it concerns."""
    named = (ENGINE_RULES[rule.rule]._replace(sources=rule.source) for rule in engine.rules if holds(rule, version))
    return (*((None, rule) for rule in named), *((r.when, _read(r)) for r in restrictions(engine, version)))


def restrictions(engine: Engine, version: str) -> tuple[Restriction, ...]:
    """Return what an engine states as data for a version: what it offers, and its restrictions."""
    return (*offers(engine), *(rule for rule in engine.restrictions if holds(rule, version)))


def holds(rule: Applies, version: str) -> bool:
    """Tell whether a rule holds for a version of its engine."""
    return at_least(version, rule.since) and not (rule.until is not None and at_least(version, rule.until))


def offers(engine: Engine) -> Iterator[Restriction]:
    """Yield the restrictions that follow from what an engine offers at all."""
    needed = Conditions.model_construct  # built from checked values: nothing to check again
    policies, together = engine.scheduling.policies, engine.disaggregation
    weights, cache, blocks = engine.weight_precisions, engine.kv_precisions, engine.block_sizes
    split, dp, spares = engine.context_parallel, engine.attention_dp, engine.redundant_experts
    facts: list[tuple[str, str, Sourced[Any], Conditions]] = [
        ("weights_are_served", f"weights in {_listed(weights)}", weights, needed(weights=weights.value)),
        ("kv_cache_is_served", f"a KV cache in {_listed(cache)}", cache, needed(kv_cache=cache.value)),
        ("block_size_is_offered", f"blocks of {_listed(blocks)} tokens", blocks,
         needed(one_of={"block_size": blocks.value})),
        ("policy_is_offered", f"prompts run {_listed(policies)}", policies, needed(policies=policies.value)),
        ("context_parallel_is_offered", f"context_parallel of {_listed(split)}", split,
         needed(one_of={"context_parallel": split.value})),
    ]  # fmt: skip
    if not spares.value:
        one = needed(at_most={"redundant_experts": 0})
        facts.append(("experts_may_be_redundant", "each expert is held once", spares, one))
    if together is None:
        facts.append(("role_is_offered", "prefill and decode stay together", policies, needed(roles=("mixed",))))
    for name, says, fact, needs in facts:
        yield Restriction.model_construct(name=name, says=says, needs=needs, source=fact.source, note=fact.note)
    if dp.value != "any":
        only = dp.value == "experts"
        yield Restriction.model_construct(
            name="attention_dp_is_offered",
            says="attention_dp inside a replica is for models with experts" if only else "attention_dp is 1",
            when=needed(features=("dense",)) if only else needed(),
            needs=needed(at_most={"attention_dp": 1}),
            source=dp.source,
            note=dp.note,
        )


def _listed(fact: Sourced[Any]) -> str:
    return ", ".join(map(str, fact.value))


def _read(r: Restriction) -> LegalityRule:
    """Return a restriction as a rule on arrays."""
    parts = [part for part in (r.when, r.needs, r.forbids) if part is not None]
    names = {name for part in parts for name in conditions.quantities(part)}
    return LegalityRule(
        r.name,
        r.says,
        lambda s, v: _broken(r, s, v),
        lambda s, v: ", ".join(dict.fromkeys(text for part in parts for text in conditions.numbers(part, s, v))),
        by_limits=not conditions.LIMITS.isdisjoint(names),
        by_requests=not {"max_num_seqs", "seqs_per_rank"}.isdisjoint(names),
        sources=r.source,
    )


def _broken(r: Restriction, s: Setting, v: Values) -> Any:
    """Where ``when`` holds and ``needs`` does not, or ``forbids`` does; without both, where ``when`` holds."""
    applies = conditions.hold(r.when, s, v)
    if not applies.any():
        return applies
    wrong: Any = np.array(r.needs is None and r.forbids is None)
    if r.needs is not None:
        wrong = wrong | ~conditions.hold(r.needs, s, v)
    if r.forbids is not None:
        wrong = wrong | conditions.hold(r.forbids, s, v)
    return applies & wrong
