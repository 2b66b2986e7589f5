"""How many replicas of which columns serve the loads best, mixed and disaggregated side by side.

    choose    n_c ∈ ℕ                       replicas of column c
              f_gh ≥ 0                      requests/s from prefill group g to decode group h
    such that Σ n_c·value_c + Σ f_gh·v_h ≥ demand      of every workload (of "as much as fits": something)
              Σ_h f_gh ≤ Σ_{p∈g} n_p·rate_p            prefill keeps up, and
              Σ_g f_gh ≤ Σ_{d∈h} n_d·rate_d            so does decode
              Σ_h f_gh·s_gh ≤ ℓ·Σ_{p∈g} n_p·lanes_p    links carry the caches (on both sides)
              replicas fit into the nodes and domains of every inventory, links between inventories, and the limits
    best by   the goals in order, then fewest devices, least cost, least power, most load, fewest replicas

A group holds columns that may be paired with the same others: how flow divides inside it is immaterial.

Routing family: requests are split statically and at random over the replicas (and pairs of replicas) in proportion to
their rates, so each replica sees its own Poisson stream.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.levels import level
from planner.milp.model import INFINITY, Goal, Milp, Objective, Row, Variable, Weighted, sense_of
from planner.milp.packing import node_rows
from planner.problem import Encoded, Flow, GoalSpec, PlanningProblem
from planner.table import Floats, Ints
from planner.units import METRIC_UNITS

TIE_BREAKS = (
    GoalSpec("devices", "minimize"),
    GoalSpec("cost", "minimize"),
    GoalSpec("power", "minimize"),
    GoalSpec("load", "maximize"),
    GoalSpec("replicas", "minimize"),
)
_LATENCIES = ("ttft", "tpot")
_SOMETHING = 1e-4  # share of the largest replica's rate that counts as serving at all


class _Group(NamedTuple):
    """Columns of one role that may be paired with the same others, and what a request through them counts [1 or s]."""

    columns: Ints
    worth: float = 1.0


class _Flows(NamedTuple):
    """Flow variables, one per pair of groups: their groups, link seconds, bytes [byte], TTFT and TPOT [s]."""

    prefill: list[_Group]
    decode: list[_Group]
    pairs: list[tuple[int, int]]
    seconds: Floats
    bytes: Floats
    ttft: Floats
    tpot: Floats


@dataclass(frozen=True, slots=True)
class Serving:
    """Integer replicas of any mix of columns, and flows between those that share the work of a request."""

    name: str = "serving"

    def build(self, problem: PlanningProblem) -> Encoded:
        """Encode the problem; with no columns its demand rows are infeasible."""
        model = _Model(problem)
        model.demands()
        model.flows_within_rates()
        model.links()
        model.nodes()
        model.limits()
        model.fixed()
        model.asked()
        if model.latencies:
            model.worst_latencies()
        milp = Milp(tuple(model.variables), tuple(model.rows), tuple(model.objectives()))
        return Encoded(milp, model.replicas, model.flows_of)


class _Model:
    """The variables and rows as they are put together."""

    def __init__(self, problem: PlanningProblem) -> None:
        self.problem = problem
        self.count = len(problem.table)
        self.latencies = [name for name in _LATENCIES if name in problem.metrics]
        self.variables: list[Variable] = list(_replica_variables(problem))
        self.upper = np.array([variable.upper for variable in self.variables])
        self.rows: list[Row] = []
        self.flows = _flow_groups(problem, apart=bool(self.latencies))
        self.first_flow = self.count
        for g, h in self.flows.pairs:
            most = min(self._most(self.flows.prefill[g]), self._most(self.flows.decode[h]))
            name = f"flow[{self._label(self.flows.prefill[g])}>{self._label(self.flows.decode[h])}]"
            self.variables.append(Variable(name, 0.0, most, integer=False, meaning="requests/s that pass through both"))
        self.worst: dict[str, int] = {}

    def _most(self, group: _Group) -> float:
        return float(self.upper[group.columns] @ self.problem.table.figures["rate"][group.columns])

    @staticmethod
    def _label(group: _Group) -> str:
        return str(group.columns[0])

    def add(self, name: str, parts: Mapping[int, float], bounds: tuple[float, float], unit: str, meaning: str) -> None:
        """Add a row with coefficients by variable."""
        kept = {index: float(value) for index, value in sorted(parts.items()) if value}
        self.rows.append(Row(name, name.split("[", 1)[0], kept, bounds[0], bounds[1], unit, meaning))

    def demands(self) -> None:
        """Every workload gets what it asks for, and one that takes as much as fits gets something."""
        problem = self.problem
        for load in problem.loads:
            parts = self._carried(load.workload)
            if load.demand is None:
                mine = problem.table.where(workload=load.workload)
                largest = float(problem.table.figures["rate"][mine].max(initial=0.0)) or 1.0
                meaning = f"something serves {load.workload}"
                parts = {index: value / largest for index, value in parts.items()}
                self.add(f"served[{load.workload}]", parts, (_SOMETHING, INFINITY), "largest replica", meaning)
                continue
            unit = "request/s" if load.kind == "rate" else "request"
            meaning = f"the replicas carry {load.demand:g} {unit} of {load.workload}"
            # Divided by the demand, so that solvers meet it to nine digits whatever its size.
            parts = {index: value / load.demand for index, value in parts.items()}
            self.add(f"demand[{load.workload}]", parts, (1.0, INFINITY), "share of the demand", meaning)

    def _workload(self, column: int) -> str:
        table = self.problem.table
        return table.pools[int(table.pool[column])].workload

    def _mixed(self, workload: str) -> NDArray[np.bool_]:
        return self.problem.table.where(role="mixed", workload=workload)

    def _flow_worth(self, workload: str) -> dict[int, float]:
        """Return what a unit of each flow variable of a workload counts toward its demand."""
        return {
            self.first_flow + k: self.flows.decode[h].worth
            for k, (_, h) in enumerate(self.flows.pairs)
            if self._workload(int(self.flows.decode[h].columns[0])) == workload
        }

    def _carried(self, workload: str) -> dict[int, float]:
        value = self.problem.value
        mixed = {int(c): float(value[c]) for c in np.nonzero(self._mixed(workload))[0]}
        return mixed | self._flow_worth(workload)

    def flows_within_rates(self) -> None:
        """No group prefills or decodes more than its replicas can."""
        rates = self.problem.table.figures["rate"]
        for side, groups, place in (("prefill", self.flows.prefill, 0), ("decode", self.flows.decode, 1)):
            for number, group in enumerate(groups):
                parts = {int(c): -float(rates[c]) for c in group.columns}
                parts |= {self.first_flow + k: 1.0 for k, pair in enumerate(self.flows.pairs) if pair[place] == number}
                meaning = f"what passes through these {side} replicas is at most what they can do"
                self.add(f"{side}_rate[{self._label(group)}]", parts, (-INFINITY, 0.0), "request/s", meaning)

    def links(self) -> None:
        """Links of a rank are busy with caches for a share of the time at most; so are links between inventories."""
        problem, table = self.problem, self.problem.table
        lanes = table.axes["attention_dp"]
        for side, groups, place in (("prefill", self.flows.prefill, 0), ("decode", self.flows.decode, 1)):
            for number, group in enumerate(groups):
                seconds = {
                    k: float(self.flows.seconds[k]) for k, p in enumerate(self.flows.pairs) if p[place] == number
                }
                busiest = float((table.figures["rate"][group.columns] / lanes[group.columns]).max())
                if not seconds or busiest * max(seconds.values()) <= problem.link_load:
                    continue  # even at full rate they are never that busy
                parts = {int(c): -problem.link_load * float(lanes[c]) for c in group.columns}
                parts |= {self.first_flow + k: time for k, time in seconds.items()}
                meaning = f"the links of these {side} replicas carry the caches of their requests"
                self.add(f"kv_links[{side},{self._label(group)}]", parts, (-INFINITY, 0.0), "s/s", meaning)
        for link in problem.links:
            parts = {self.first_flow + k: size / link.bandwidth for k, size in self._between(link.between)}
            a, b = link.between
            meaning = f"caches between {a} and {b} take at most {link.bandwidth:g} byte/s"
            self.add(f"kv_transfer[{a},{b}]", parts, (-INFINITY, 1.0), "share of the bandwidth", meaning)

    def _between(self, ends: tuple[str, str]) -> Iterator[tuple[int, float]]:
        table = self.problem.table
        for k, (g, h) in enumerate(self.flows.pairs):
            sides = [
                table.pools[table.pool[int(x.columns[0])]].inventory
                for x in (self.flows.prefill[g], self.flows.decode[h])
            ]
            if sorted(sides) == sorted(ends):
                yield k, float(self.flows.bytes[k])

    def nodes(self) -> None:
        """Replicas stand in the nodes and domains of their inventory."""
        table = self.problem.table
        devices = table.figures["devices"].astype(np.int64)
        for name, stock in self.problem.stocks.items():
            sizes = np.where(table.where(inventory=name), devices, 0)
            if sizes.any():
                more, capacity = node_rows(name, stock, sizes.tolist(), len(self.variables))
                self.variables += more
                self.rows += capacity

    def limits(self) -> None:
        """What the whole plan may take."""
        for metric, most in self.problem.limits.items():
            parts = {i: v / most for i, v in enumerate(self._metric(metric).tolist()) if v}
            unit = METRIC_UNITS[metric]
            self.add(
                f"limit[{metric}]", parts, (-INFINITY, 1.0), "share of the limit", f"at most {most:g} {unit} in all"
            )

    def fixed(self) -> None:
        """What runs already keeps its replicas."""
        for number, (columns, replicas) in enumerate(self.problem.fixed):
            parts = dict.fromkeys(columns, 1.0)
            self.add(f"fixed[{number}]", parts, (replicas, replicas), "replica", f"{replicas} replicas run already")

    def asked(self) -> None:
        """Some of the columns that were asked for serve something, alone or as parts of pairs."""
        rates = self.problem.table.figures["rate"]
        for number, columns in enumerate(self.problem.asked):
            largest = float(rates[list(columns)].max(initial=0.0)) or 1.0
            mine, mixed = set(columns), self.problem.table.where(role="mixed")
            parts = {c: float(rates[c]) / largest for c in columns if mixed[c]}
            for k, (g, h) in enumerate(self.flows.pairs):
                inside = sum(mine.issuperset(x.columns.tolist()) for x in (self.flows.prefill[g], self.flows.decode[h]))
                parts |= {self.first_flow + k: inside / largest} if inside else {}
            meaning = "something passes through what was asked for"
            self.add(f"asked[{number}]", parts, (_SOMETHING, INFINITY), "largest replica", meaning)

    def worst_latencies(self) -> None:
        """The worst latency of what is used, in steps, is a variable of its own where a goal reads it."""
        table = self.problem.table
        mixed = np.nonzero(table.where(role="mixed"))[0].tolist()
        users = [*mixed, *range(self.first_flow, self.first_flow + len(self.flows.pairs))]
        for name in self.latencies:
            of_users = level(np.concatenate([table.figures[name][mixed], getattr(self.flows, name)]))
            self.worst[name] = len(self.variables)
            most = float(of_users.max(initial=0.0))
            meaning = f"largest {name} in use"
            self.variables.append(Variable(f"worst[{name}]", 0.0, most, integer=False, meaning=meaning))
            for step in np.unique(of_users).tolist():
                used = self._used(name, step)
                for index in (users[k] for k in np.nonzero(of_users == step)[0]):
                    variable = self.variables[index]
                    parts = {index: 1 / max(variable.upper, 1e-9), used: -1.0}
                    row_name = f"used[{name},{variable.name}]"
                    self.add(row_name, parts, (-INFINITY, 0.0), "1", "nothing of that latency unless it is used")

    def _used(self, name: str, step: float) -> int:
        """Add whether anything of a latency is in use; return its variable."""
        used = len(self.variables)
        label = f"{name},{step:.6g}"
        self.variables.append(
            Variable(f"used[{label}]", 0, 1, integer=True, meaning=f"{name} of {step:.4g} s is in use")
        )
        self.add(f"worst_{name}[{label}]", {self.worst[name]: 1.0, used: -step}, (0.0, INFINITY), "s", f"{name} in use")
        return used

    def objectives(self) -> Iterator[Goal]:
        """The goals, then the tie-breaks that they do not already settle and whose figures are known."""
        seen: set[str] = set()
        for goal in (*self.problem.goals, *TIE_BREAKS):
            if goal.weights:
                parts = tuple((self._objective(name, sense_of(name)), weight) for name, weight in goal.weights)
                yield Weighted(goal.metric, parts)
                continue
            if goal.metric in seen:
                continue
            seen.add(goal.metric)
            objective = self._objective(goal.metric, goal.sense)
            if not np.isnan(objective.coefficients).any():
                yield objective

    def _objective(self, metric: str, sense: str) -> Objective:
        return Objective(
            metric, "maximize" if sense == "maximize" else "minimize", self._metric(metric), METRIC_UNITS[metric]
        )

    def _metric(self, metric: str) -> Floats:
        """Return what each variable adds to a metric, over all variables there are."""
        coefficients = np.zeros(len(self.variables))
        table = self.problem.table
        f = table.figures
        if metric in _LATENCIES:
            coefficients[self.worst[metric]] = 1.0
        elif metric in ("requests", "tokens", "load"):
            for load in self.problem.loads:
                each = load.output_tokens if metric == "tokens" else 1.0
                mine = self._mixed(load.workload)
                coefficients[: self.count][mine] = (self.problem.value if metric == "load" else f["rate"])[mine] * each
                for index, worth in self._flow_worth(load.workload).items():
                    coefficients[index] = worth if metric == "load" else each
        else:
            per_replica = {
                "devices": f["devices"],
                "cost": f["devices"] * f["price"],
                "power": f["devices"] * f["power"],
                "replicas": np.ones(self.count),
            }
            coefficients[: self.count] = per_replica[metric]
        return coefficients

    def replicas(self, point: Floats) -> list[int]:
        """Return replicas per column."""
        return [int(n) for n in point[: self.count]]

    def flows_of(self, point: Floats) -> list[Flow]:
        """Return the flow between columns: a group's flow divides in proportion to what its replicas can do."""
        rates = self.problem.table.figures["rate"] * point[: self.count]
        found = []
        for k, (g, h) in enumerate(self.flows.pairs):
            flow = float(point[self.first_flow + k])
            sources, sinks = self.flows.prefill[g].columns, self.flows.decode[h].columns
            total = float(rates[sources].sum() * rates[sinks].sum())
            if flow <= 0 or total <= 0:
                continue
            for p in sources.tolist():
                for d in sinks.tolist():
                    part = flow * float(rates[p] * rates[d]) / total
                    found += [Flow(p, d, part)] if part > 0 else []
        return found


def _replica_variables(problem: PlanningProblem) -> Iterator[Variable]:
    table = problem.table
    for i in range(len(table)):
        stock = problem.stocks[table.pools[table.pool[i]].inventory]
        most = stock.devices // int(table.figures["devices"][i])
        yield Variable(f"replicas[{i}]", 0, most, integer=True, meaning=table.label(i))


def _flow_groups(problem: PlanningProblem, *, apart: bool) -> _Flows:
    """Group columns whose pairs are the same; with ``apart`` those whose latencies with each are, too."""
    routes = problem.routes
    prefill = _groups(problem, routes.prefill, routes.decode, apart=apart, worth=False)
    decode = _groups(problem, routes.decode, routes.prefill, apart=apart, worth=True)
    of_prefill, of_decode = (
        {int(c): n for n, g in enumerate(groups) for c in g.columns} for groups in (prefill, decode)
    )
    first: dict[tuple[int, int], int] = {}
    for route, (p, d) in enumerate(zip(routes.prefill.tolist(), routes.decode.tolist(), strict=True)):
        first.setdefault((of_prefill[p], of_decode[d]), route)
    kept = routes.take(np.array(list(first.values()), dtype=np.int64))
    return _Flows(prefill, decode, list(first), kept.seconds, kept.bytes, kept.ttft, kept.tpot)


def _groups(problem: PlanningProblem, mine: Ints, others: Ints, *, apart: bool, worth: bool) -> list[_Group]:
    """Return groups of the columns of one side, in the order of their first column."""
    table, routes = problem.table, problem.routes
    residence = problem.value / table.figures["rate"] if len(table) else np.zeros(0)
    steps = np.stack([level(routes.ttft), level(routes.tpot)]) if apart else np.zeros((2, len(mine)))
    read = np.stack([routes.seconds, routes.bytes, *steps])
    partners: dict[int, list[tuple[float, ...]]] = {}
    for column, other, figures in zip(mine.tolist(), others.tolist(), read.T.tolist(), strict=True):
        partners.setdefault(column, []).append((other, *figures))
    by_key: dict[tuple[object, ...], list[int]] = {}
    for column, with_whom in sorted(partners.items()):
        inventory = table.pools[table.pool[column]].inventory
        counts = round(float(residence[column]), 12) if worth else 1.0
        rate, lanes = float(table.figures["rate"][column]), int(table.axes["attention_dp"][column])
        # Where links may be what limits a column, flow divides as rates do only among those of the same rate.
        strained = rate / lanes * max(route[1] for route in with_whom) > problem.link_load
        key = (
            inventory,
            int(table.marked[column]) if problem.asked else 0,
            lanes,
            rate if strained else -1.0,
            counts,
            tuple(sorted(with_whom)),
        )
        by_key.setdefault(key, []).append(column)
    return [
        _Group(np.array(columns, dtype=np.int64), float(residence[columns[0]]) if worth else 1.0)
        for columns in by_key.values()
    ]


SERVING = Serving()
