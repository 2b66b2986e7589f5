"""The load that is seen now: counters of vLLM or SGLang as Prometheus reads them, or a CSV file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from planner import yaml_io
from planner.catalog import cells
from planner.catalog.cells import BadValueError
from planner.errors import InputError, Problem

_COLUMNS = ("requests_per_s", "input_tokens", "output_tokens")
_OPTIONAL = ("workload",)
_MOST_TOKENS, _LEAST_RATE, _MOST_RATE = 1e9, 1e-6, 1e7
# Names as the engines write them (vLLM's design/metrics.md of 2026, SGLang's references/production_metrics of 2026).
_COUNTERS: Mapping[str, tuple[str, str, str]] = {
    "vllm": ("vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
    "sglang": ("sglang:num_requests_total", "sglang:prompt_tokens_total", "sglang:generation_tokens_total"),
}


class Observed(NamedTuple):
    """A workload as it is: requests per second, and the mean lengths of prompts and answers [token]."""

    workload: str
    requests_per_s: float
    input_tokens: float
    output_tokens: float


def read_observed(paths: Sequence[Path], seconds: float | None, workloads: Sequence[str]) -> list[Observed]:
    """Read what is observed.

    Args:
        paths: one CSV file with a row per workload; or snapshots of counters, one, or an earlier and a later one.
        seconds: time between two snapshots, or since the counters of one started.
        workloads: of the scenario; the only one where a file names none.

    Raises:
        InputError: every fault of the files; no name where there are several workloads.
    """
    if paths and all(path.suffix == ".csv" for path in paths):
        if len(paths) > 1:
            raise InputError.single(str(paths[1]), "one CSV file is read; put the rows of all workloads into it")
        return _from_csv(paths[0], workloads)
    if not 1 <= len(paths) <= 2:
        raise InputError.single("--observed", "give one CSV file, or one or two snapshots of Prometheus counters")
    if seconds is None:
        message = "counters need the time they were counted over: --over '10 min'"
        raise InputError.single(str(paths[0]), message)
    return [_from_counters(paths, seconds, _only(workloads, str(paths[0])))]


def _only(workloads: Sequence[str], origin: str) -> str:
    if len(workloads) > 1:
        message = (
            f"does not say which workload it is of ({', '.join(workloads)}): use a CSV file with a 'workload' column"
        )
        raise InputError.single(origin, message)
    return workloads[0]


def _from_csv(path: Path, workloads: Sequence[str]) -> list[Observed]:
    problems: list[Problem] = []
    found: dict[str, Observed] = {}
    lines = list(cells.lines(yaml_io.read_text(path), str(path), _COLUMNS, _OPTIONAL))
    for line, raw in lines:
        name = str(raw.get("workload") or "").strip()
        values = []
        bounds = ((_LEAST_RATE, _MOST_RATE), (1.0, _MOST_TOKENS), (2.0, _MOST_TOKENS))
        for column, (least, most) in zip(_COLUMNS, bounds, strict=True):
            try:
                values.append(cells.number(raw.get(column), least=least, most=most))
            except BadValueError as error:
                problems.append(Problem(str(path), line, 1, column, str(error)))
        if not name and len(workloads) == 1:
            name = workloads[0]
        if name not in workloads:
            problems.append(Problem(str(path), line, 1, "workload", f"must be one of {', '.join(workloads)}"))
        elif name in found:
            problems.append(Problem(str(path), line, 1, "workload", f"'{name}' stands in a line above already"))
        elif len(values) == len(_COLUMNS):
            found[name] = Observed(name, *values)
    if not lines:
        problems.append(Problem(str(path), 1, 1, "", "holds no rows"))
    if problems:
        raise InputError(problems)
    return list(found.values())


def _from_counters(paths: Sequence[Path], seconds: float, workload: str) -> Observed:
    snapshots = [_counters(path) for path in paths]
    engine = next((name for name, names in _COUNTERS.items() if all(names[0] in s for s in snapshots)), None)
    if engine is None:
        known = " or ".join(names[0] for names in _COUNTERS.values())
        raise InputError.single(str(paths[0]), f"holds no counter of finished requests ({known})")
    counted = []
    for name in _COUNTERS[engine]:
        values = [snapshot.get(name, math.nan) for snapshot in snapshots]
        counted.append(values[-1] - (values[0] if len(values) == 2 else 0.0))
    requests, prompt, output = counted
    if not requests > 0 or not prompt > 0 or not output > 0:
        message = "no request was finished in between: give the earlier snapshot first, and enough time between the two"
        raise InputError.single(str(paths[-1]), message)
    return Observed(workload, requests / seconds, prompt / requests, output / requests)


def _counters(path: Path) -> dict[str, float]:
    """Return the sum of every metric over its labels, in Prometheus' text format."""
    found: dict[str, float] = {}
    problems: list[Problem] = []
    for number, line in enumerate(yaml_io.read_text(path).splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name = text.partition("{")[0].split()[0]
        rest = text.rpartition("}")[2].split() if "{" in text else text.split()[1:]
        try:
            value = float(rest[0])
        except (ValueError, IndexError):
            problems.append(Problem(str(path), number, 1, name, "is no line of Prometheus' text format"))
            continue
        found[name] = found.get(name, 0.0) + value
    if problems:
        raise InputError(problems[:5])
    return found


def overrides(observed: Sequence[Observed], demands: Mapping[str, str], headroom: float) -> list[str]:
    """Return the changes of a scenario that plan for what is observed.

    Args:
        observed: one per workload.
        demands: kind of each workload's requests; "max" stays, since as much as fits is asked for.
        headroom: share that is planned on top of the observed rate.
    """
    found = []
    for one in observed:
        at = f"workloads.{one.workload}"
        found += [
            f"{at}.input_tokens={max(round(one.input_tokens), 1)} token",
            f"{at}.output_tokens={max(round(one.output_tokens), 2)} token",
        ]
        rate = one.requests_per_s * (1 + headroom)
        if demands[one.workload] == "rate":
            found.append(f"{at}.requests={rate:.6g} /s")
    return found
