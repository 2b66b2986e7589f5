"""How long the search takes as the grid grows: every configuration through the full cost model and the latency limits.

    python benchmarks/search_speed.py [ROLE] [LARGEST]

One role (prefill, decode or mixed; default all three) of DeepSeek-V3 on 32 H200, over grids of 1e4 to LARGEST (default
1e8) distinct configurations that the rules on structure allow. What bounds drop before the whole model is computed is
counted: loads beyond the memory, or beyond the TPOT limit whatever the token budget, and of mixed replicas what cannot
beat another of its size. Prints seconds and configurations per second; every grid is evaluated in this process, which
has the generated code loaded.
"""

import sys
import time
from typing import Any

from planner.api import load_scenario
from planner.columns.enumerate import setting_table
from planner.columns.setting import Setting, settings
from planner.schema.search import Search

ROLES = ("prefill", "decode", "mixed")
_MILLION = 1e6


def search(role: str, wanted: float, structures: int) -> Search:
    """Return a grid of about ``wanted`` configurations over so many structures."""
    loads = max(1.0, wanted / structures)
    if role == "decode":
        # Loads; its token budget follows.
        return Search(mean_running=tuple(range(1, max(8, round(loads)) + 1)), **_degrees(role))
    budgets = max(4, min(7936, round(loads / 90 if role == "prefill" else loads**0.5)))
    each = max(2, round(loads / budgets))
    step = 15872 // budgets
    tokens = tuple(range(512, 512 + budgets * step, step))
    if role == "prefill":
        busy = tuple(range(1, min(90, each) + 1))
        return Search(prefill_utilisation=busy, max_num_batched_tokens=tokens, **_degrees(role))
    return Search(mean_running=tuple(range(1, each + 1)), max_num_batched_tokens=tokens, **_degrees(role))


def _degrees(role: str) -> dict[str, Any]:
    """Return the axes that make structures; a decode replica has few others, so more of them."""
    more = {"kv_precisions": ("bf16", "fp8"), "block_size": (16, 32, 64), "overlaps": "any"}
    return {"redundant_experts": (0, 32, 64), **(more if role == "decode" else {})}


def buildable(setting: Setting) -> int:
    """Return how many structures the rules leave."""
    least = {"mean_running": (1,), "prefill_utilisation": (1,), "max_num_batched_tokens": (16384,)}
    one = Search(**least, **_degrees(setting.role))
    table = setting_table(setting._replace(search=one))
    fallen = sum(r.configurations for r in table.rejected if r.structural)
    return table.searched - fallen


def main() -> None:
    """Measure and print."""
    roles = sys.argv[1:2] if sys.argv[1:2] and sys.argv[1] in ROLES else list(ROLES)
    largest = float(sys.argv[-1]) if sys.argv[1:] and sys.argv[-1] not in ROLES else 1e8
    case = load_scenario("scenarios/deepseek_v3_h200.yaml", ["workloads.chat.slo.ttft=600 ms"])
    for setting in settings(case):
        if setting.role not in roles:
            continue
        structures = buildable(setting)
        print(f"{setting.role}: {structures} structures")
        wanted = 1e4
        while wanted <= largest:
            chosen = setting._replace(search=search(setting.role, wanted, structures))
            start = time.perf_counter()
            table = setting_table(chosen, within_limits=True, best_only=True)
            seconds = time.perf_counter() - start
            distinct = table.searched - sum(r.configurations for r in table.rejected if r.structural)
            rate = distinct / seconds / _MILLION
            print(
                f"  {distinct:>11,d} configurations  {seconds:7.3f} s  {rate:6.2f} million/s  {len(table):,d} columns"
            )
            wanted *= 10


if __name__ == "__main__":
    main()
