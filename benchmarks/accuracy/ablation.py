"""What each term of the cost model is worth: errors on measured runs with one term at a time switched off.

    python benchmarks/accuracy/ablation.py [--refit] [--update-docs]

A term is switched off by holding its symbols at the value at which it says nothing (a latency at 0, a share of a rate
at 1, ...), for the core rows of benchmarks/data/silicon_dev.csv. Three figures of each:

- as it is: the efficiencies `operators`, which no whole run was used for;
- centred: the same with TPOT and TTFT multiplied by one factor each, so that their median error is 0: a term that only
  moves all rows alike is worth nothing here;
- with --refit: efficiencies fitted anew without the term, as `planner calibrate` fits them but without the process of
  what they leave, to every fourth row; errors are those of the other rows.

--update-docs writes docs/reference/ablation.md. A refit takes about half a minute per term.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.calibrate.data import Rows, prepared
from planner.calibrate.fit import Fitted, fit, modelled
from planner.calibrate.measurements import Measurements, read_measurements
from planner.catalog import load_efficiencies, load_priors
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

_ROOT = Path(__file__).resolve().parents[2]
DATA = _ROOT / "benchmarks" / "data" / "silicon_dev.csv"
PAGE = _ROOT / "docs" / "reference" / "ablation.md"
BASE = "operators"
_EVERY = 4  # rows of which one is fitted to
_ENDLESS = 1e12
_SHARES = (
    "mfu_projections", "mfu_ffn", "mfu_experts", "mfu_head", "mfu_attention", "mbu_projections", "mbu_ffn",
    "mbu_experts", "mbu_activations", "mbu_kv_cache", "vector_share",
)  # fmt: skip
_FLOORS = (
    "attention_floor", "mla_floor", "index_floor", "gated_delta_floor", "dense_ffn_floor", "moe_ffn_floor",
    "quantise_floor", "eager_floor",
)  # fmt: skip
_LATENCIES = ("tp_latency", "tp_far_latency", "ep_latency", "ep_far_latency", "pp_latency", "exchange_latency")


class Term(NamedTuple):
    """A part of the cost model, and its symbols at the values at which it says nothing, or at those of others."""

    name: str
    neutral: Mapping[str, float | str]


TERMS = (
    Term("prompts slow down the requests that decode beside them", {"prompt_interference": 0.0}),
    Term("clients start together (bursts)", {"burst_share": 0.0, "equal_burst_share": 0.0}),
    Term("clients are answered and come back together (waves, turns)",
         {"return_share": 0.0, "turn_share": 0.0, "in_waves": 0.0}),
    Term("the KV cache limits the batch", {"admitted": "clients"}),
    Term("shares of datasheet rates reached", dict.fromkeys(_SHARES, 1.0) | {"link_efficiency": 1.0}),
    Term("least times of layers, quantising and launches", dict.fromkeys(_FLOORS, 0.0)),
    Term("host time per step and sequence", {"host_step": 0.0, "host_sequence": 0.0}),
    Term("host time per request and prompt token", {"host_request": 0.0, "host_prompt_token": 0.0}),
    Term("tiles of matrix products", {"tile_rows": 1.0, "least_tile_rows": 1.0}),
    Term("some experts are hot", {"hot_load": 1.0, "hot_share": 0.0}),
    Term("attention over selected tokens or a window only", {"index_topk": _ENDLESS, "window": _ENDLESS}),
    Term("all-reduces fused with what follows them", {"fused_norm": 0.0, "fused_moe_reduce": 0.0}),
    Term("latencies of collectives", dict.fromkeys(_LATENCIES, 0.0)),
    Term("bytes that collectives move", {"link_efficiency": _ENDLESS}),
)  # fmt: skip


def without(rows: Rows, term: Term) -> Rows:
    """Return rows whose cost model lacks a term."""
    blocks = []
    for block in rows.blocks:
        held = {
            name: block.loop.values[value] if isinstance(value, str) else np.full(block.loop.rows, value)
            for name, value in term.neutral.items()
        }
        blocks.append(block._replace(held=held))
    return rows._replace(blocks=blocks)


def errors(rows: Rows, times: tuple[Floats, Floats]) -> list[Floats]:
    """Return logarithms of modelled over measured TPOT and TTFT of core rows; 0 predicted stands for no answer."""
    found = []
    for measured, time in zip(reversed(rows.times), reversed(times), strict=True):
        found.append(np.log(np.nan_to_num(time, nan=0.0) + 1e-12)[rows.core] - np.log(measured)[rows.core])
    return found


def figures(parts: list[Floats], *, centred: bool = False) -> list[str]:
    """Return median and mean size of the errors in percent, of TPOT and then of TTFT."""
    found = []
    for part in parts:
        known = part[np.isfinite(part)]
        size = 100 * np.abs(np.expm1(known - (np.median(known) if centred else 0.0)))
        found.append(f"{np.median(size):.1f} / {size.mean():.1f}")
    return found


def refitted(rows: Rows, some: Rows, textbook: Efficiencies) -> list[Floats]:
    """Return errors of efficiencies that are fitted to ``some`` of the rows, NaN for those."""
    fitted = _of(fit(some.target(some.weights), textbook, lambda stage: None), rows)
    times = np.array(modelled(rows.blocks, textbook, fitted, len(rows.places)))
    seen = np.isin([row.id for row in rows.measured.rows], [row.id for row in some.measured.rows])
    return [np.where(seen[rows.core], np.nan, part) for part in errors(rows, (times[0], times[1]))]


def _of(fitted: Fitted, rows: Rows) -> Fitted:
    """Return what was fitted as offsets of other rows of the same systems and backends."""
    parameters = []
    for p in fitted.parameters:
        known = [p.system in (None, place.system) and p.backend in (None, place.backend) for place in rows.places]
        parameters.append(p._replace(rows=np.nonzero(known)[0]))
    return fitted._replace(parameters=tuple(parameters))


def table(measured: Measurements, textbook: Efficiencies, *, refit: bool) -> Iterator[list[str]]:
    """Yield a line for the whole model, then one for each term it is robbed of."""
    priors = load_priors("silicon").value
    rows = prepared(measured, textbook, priors)
    ranks = sorted(range(len(rows.places)), key=lambda i: rows.places[i])  # loads of a deployment are neighbours
    some = prepared(rows.measured.take(np.array(ranks[::_EVERY])), textbook, priors) if refit else None
    for term in (Term("nothing: the whole model", {}), *TERMS):
        robbed = without(rows, term)
        plain = errors(robbed, modelled(robbed.blocks, textbook, None, len(rows.places)))
        line = [term.name, *figures(plain), *figures(plain, centred=True)]
        if some is not None:
            line += figures(refitted(robbed, without(some, term), textbook))
        sys.stderr.write(f"{term.name}: {' | '.join(line[1:])}\n")
        yield line


def main() -> None:
    """Print the table, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refit", action="store_true", help="also fit anew without each term")
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    textbook = load_efficiencies(BASE).value
    headers = ["switched off", "TPOT as it is", "TTFT", "TPOT centred", "TTFT"]
    if options.refit:
        headers += ["TPOT refitted", "TTFT"]
    lines = [headers, ["---"] * len(headers), *table(read_measurements(DATA), textbook, refit=options.refit)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
    sys.stdout.write(text)
    if options.update_docs:
        PAGE.write_text(_page(text, refit=options.refit), encoding="utf-8")


def _page(text: str, *, refit: bool) -> str:
    again = f"""
*Refitted*: efficiencies are fitted anew without the term to one of {_EVERY} rows; errors are those of the others, other
loads of mostly the same deployments. A term that others can stand in for is worth little here. No process of what
efficiencies leave is on top, so errors lie above those of [accuracy](accuracy.md).
"""
    return f"""<!-- Written by benchmarks/accuracy/ablation.py --update-docs. -->

# What each term is worth

Errors on the core rows of benchmarks/data/silicon_dev.csv with one term of the cost model at a time switched off: its
symbols are held at the value at which it says nothing. Median / mean size in percent.

*As it is*: with the efficiencies `{BASE}`, of which nothing was fitted to whole runs; nothing is fitted anew, so a term
may look useless, or harmful, because another errs the other way. *Centred*: TPOT and TTFT are multiplied by one factor
each so that their median error is 0.
{again if refit else ""}
{text}"""


if __name__ == "__main__":
    main()
