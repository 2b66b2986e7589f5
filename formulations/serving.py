"""How many replicas of which columns serve one model's load best.

    choose   n_c ∈ ℕ                                    replicas of column c
    such that Σ n_c·value_c ≥ demand                     (or Σ n_c ≥ 1 when as much as fits is wanted)
              replicas fit into the nodes of every inventory
    best by   the goals in order, then fewest devices, least cost, least power, most load, fewest replicas

Routing family: requests are split statically and at random over the replicas in proportion to their rates, so
each replica sees its own Poisson stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.milp.model import INFINITY, Milp, Objective, Row, Variable, row
from planner.milp.packing import node_rows
from planner.problem import Encoded, GoalSpec, PlanningProblem
from planner.table import Floats
from planner.units import METRIC_UNITS

TIE_BREAKS = (
    GoalSpec("devices", "minimize"),
    GoalSpec("cost", "minimize"),
    GoalSpec("power", "minimize"),
    GoalSpec("load", "maximize"),
    GoalSpec("replicas", "minimize"),
)


@dataclass(frozen=True, slots=True)
class Serving:
    """Integer replicas of any mix of columns of one model."""

    name: str = "serving"

    def build(self, problem: PlanningProblem) -> Encoded:
        """Encode the problem; with no columns it has the demand row alone and is infeasible."""
        table = problem.table
        count = len(table)
        devices = table.figures["devices"].astype(np.int64)
        variables = [
            Variable(
                f"replicas[{i}]",
                0,
                problem.stocks[table.inventories[table.inventory[i]]].devices // int(devices[i]),
                integer=True,
                meaning=table.configuration(i).label(),
            )
            for i in range(count)
        ]
        rows = [_demand_row(problem)]
        for name, stock in problem.stocks.items():
            sizes = np.where(table.of(name), devices, 0)
            if sizes.any():
                more, capacity = node_rows(name, stock.nodes, stock.devices_per_node, sizes.tolist(), len(variables))
                variables += more
                rows += capacity
        objectives = tuple(_objectives(problem, len(variables)))
        milp = Milp(tuple(variables), tuple(rows), objectives)
        return Encoded(milp, lambda point: [int(n) for n in point[:count]])


def _demand_row(problem: PlanningProblem) -> Row:
    if problem.demand is None:
        ones = np.ones(len(problem.table))
        return row("served", ones, (1.0, INFINITY), "replica", "something is deployed")
    unit = "request/s" if problem.load == "rate" else "request"
    # Divided by the demand, so that solvers meet it to nine digits whatever its size.
    share = problem.value / problem.demand
    meaning = f"the replicas carry {problem.demand:g} {unit} of {problem.workload}"
    return row(f"demand[{problem.workload}]", share, (1.0, INFINITY), "share of the demand", meaning)


def _objectives(problem: PlanningProblem, width: int) -> Iterator[Objective]:
    seen: set[str] = set()
    for goal in (*problem.goals, *TIE_BREAKS):
        coefficients = _metric(problem, goal.metric)
        if goal.metric in seen or np.isnan(coefficients).any():
            continue
        seen.add(goal.metric)
        padded = np.concatenate([coefficients, np.zeros(width - len(coefficients))])
        yield Objective(goal.metric, goal.sense, padded, METRIC_UNITS[goal.metric])


def _metric(problem: PlanningProblem, metric: str) -> Floats:
    """Return what one replica of each column adds to a metric, shape (C,)."""
    f = problem.table.figures
    return {
        "requests": f["rate"],
        "tokens": f["rate"] * problem.output_tokens,
        "devices": f["devices"],
        "cost": f["devices"] * f["price"],
        "power": f["devices"] * f["power"],
        "load": problem.value,
        "replicas": np.ones(len(f["devices"])),
    }[metric]


SERVING = Serving()
