"""Why a deployment cannot run at all, whatever its load: for deployments that are named, not searched."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from planner.columns.engine_rules import engine_rules
from planner.columns.setting import Setting
from planner.columns.values import multiplies
from planner.schema.precision import FORMATS

# A named deployment says "fp8", and may have scales by channel where the published checkpoint has them by block: rows
# measured with such degrees exist.
_BY_SCALES = ("expert_blocks_stay_whole",)


class Degrees(NamedTuple):
    """How a replica is split and stored; ``moe_tp`` is None where nobody stated it, copies of experts 0."""

    tp: int
    pp: int
    attention_dp: int
    ep: int
    moe_tp: int | None
    weight_precision: str
    kv_precision: str
    redundant_experts: int = 0


def why_not(setting: Setting, degrees: Degrees, longest: float = 0.0) -> str | None:
    """Return the first reason why a replica of these degrees cannot run requests of ``longest`` token, or None.

    Load and memory are not looked at.
    """
    return next(_reasons(setting, degrees, longest), None)


def _reasons(setting: Setting, d: Degrees, longest: float) -> Iterator[str]:
    a, engine = setting.architecture, setting.engine
    yield from _formats(setting, d)
    if setting.hardware.vendor not in engine.vendors:
        yield f"{engine.name} runs on devices of {', '.join(engine.vendors)}, not {setting.hardware.vendor}"
    if longest > a.max_position_embeddings:
        yield f"requests are longer than the model's {a.max_position_embeddings} tokens"
    if d.pp > a.num_hidden_layers:
        yield f"pp must be at most {a.num_hidden_layers}, the layers"
    if a.num_attention_heads % d.tp:
        yield f"tp must divide the {a.num_attention_heads} query heads"
    yield from _experts(setting, d)
    values = {
        name: np.array(float(getattr(d, name))) for name in ("tp", "pp", "ep", "attention_dp", "redundant_experts")
    }
    formats = tuple(FORMATS)
    values |= {n: np.array(float(formats.index(getattr(d, n)))) for n in ("weight_precision", "kv_precision")}
    numbers = {name: float(value) for name, value in values.items()}
    for rule in engine_rules(setting):
        if rule.structural and rule.name not in _BY_SCALES and bool(rule.broken(setting, values)):
            sources = ", ".join(rule.sources)
            yield f"{engine.name}: {rule.meaning} ({rule.detail(setting, numbers)}; {rule.name}, source {sources})"


def _experts(setting: Setting, d: Degrees) -> Iterator[str]:
    """Degrees that do not share out the experts."""
    experts, group = setting.architecture.num_experts, d.tp * d.attention_dp
    if not experts:
        if d.ep > 1 or d.attention_dp > 1:
            yield "ep and attention_dp are for models with experts"
        return
    if group % d.ep:
        yield f"ep must divide tp × attention_dp, {group}"
    if d.moe_tp is not None and d.ep * d.moe_tp != group:
        yield f"ep × moe_tp must be tp × attention_dp, {group}"
    if (experts + d.redundant_experts) % d.ep:
        copies = f" and their {d.redundant_experts} copies" if d.redundant_experts else ""
        yield f"ep must divide the {experts} experts{copies}"


def _formats(setting: Setting, d: Degrees) -> Iterator[str]:
    """Formats that the engine does not serve, or the device does not multiply in."""
    engine = setting.engine
    if d.weight_precision not in engine.weight_precisions.value:
        served = ", ".join(engine.weight_precisions.value)
        yield f"{engine.name} does not serve weights in {d.weight_precision}; it serves {served}"
    if d.kv_precision not in engine.kv_precisions.value:
        yield f"{engine.name} has no KV cache in {d.kv_precision}; it has {', '.join(engine.kv_precisions.value)}"
    precision = next(name for name in FORMATS if name == d.weight_precision)
    if not multiplies(setting.hardware, setting.architecture, precision):
        yield f"{setting.hardware.name} does not multiply in {precision}"
