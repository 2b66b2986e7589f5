"""What moving a prompt's cache from a prefill replica to a decode replica takes."""

from collections.abc import Mapping

import numpy as np

from planner.columns.evaluate import structure_of, symbol_values
from planner.columns.setting import Setting
from planner.costs.compile import compiled
from planner.schema.engine import Disaggregation
from planner.schema.hardware import Hardware
from planner.table import Floats


def transfer_figures(
    prefill: Setting,
    decode: Setting,
    separate: Disaggregation,
    sides: tuple[Mapping[str, Floats], Mapping[str, Floats]],
    *,
    together: np.bool_ | np.ndarray | bool,
) -> Mapping[str, Floats]:
    """Return the figures of ``disaggregated.transfer_expressions`` between configurations, shape (C,).

    Args:
        prefill: what stays fixed of the prefill side.
        decode: what stays fixed of the decode side.
        separate: how the engine moves caches.
        sides: axes of the prefill and of the decode configurations, as ``evaluate.figures`` takes them, shape (C,).
        together: whether all devices of both sides stand in one scale-up domain, shape (C,) or one for all.
    """
    here, there = sides
    axes = {**here, "context_parallel": there.get("context_parallel", np.ones(1))}
    near, far = _near(prefill), _far(prefill, decode)
    bandwidth, latency = (np.where(together, n, f) for n, f in zip(near, far, strict=True))
    values = symbol_values(prefill, axes) | {
        "prefill_tp": here["tp"],
        "prefill_pp": here["pp"],
        "decode_tp": there["tp"],
        "decode_pp": there["pp"],
        "senders": 1.0,
        "layerwise": float(separate.push.value == "layerwise"),
        "relayout": np.asarray(here["tp"] != there["tp"], dtype=np.float64),
        "transfer_bandwidth": bandwidth,
        "transfer_latency": latency,
        "draft_layers": np.zeros(1),
    }
    with np.errstate(all="ignore"):
        found = compiled(*structure_of(prefill), "transfer")(**values)
    return {name: np.broadcast_to(value, here["tp"].shape) for name, value in found.items()}


def _near(setting: Setting) -> tuple[float, float]:
    """Return the rate of one device to others of its scale-up domain [byte/s] and the latency [s]."""
    level = setting.hardware.scale_up[-1]
    peers = max(1, level.devices.value - 1) if level.topology == "full-mesh" else 1
    wire = level.latency.value if level.latency else 0.0
    return level.bandwidth.value / peers, setting.efficiencies.latency.collective.value + wire


def _far(prefill: Setting, decode: Setting) -> tuple[float, float]:
    """Return the same between domains: the slower network of the two."""
    latency = prefill.efficiencies.latency
    sides = (prefill.hardware, decode.hardware)
    wire = max(latency.far_message.value, *(_far_latency(side) for side in sides))
    return min(side.scale_out.bandwidth.value for side in sides), latency.collective.value + wire


def _far_latency(hardware: Hardware) -> float:
    return hardware.scale_out.latency.value if hardware.scale_out.latency else 0.0
