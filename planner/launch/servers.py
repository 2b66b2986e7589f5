"""Replicas as servers: on which nodes, at which ports, and who sends requests to whom."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from planner.constants import MILLISECONDS_PER_SECOND
from planner.errors import InputError
from planner.launch.facts import Facts
from planner.launch.placement import Part, place
from planner.plan import Deployment, Plan

HTTP, RENDEZVOUS, TRANSFER = 8000, 18500, 36000  # first ports; Ascend's transfers draw theirs from 20000 to 36000
FRONT, ROUTER, METRICS = 8800, 8900, 29000
_APART = 10  # between replicas of a node: SGLang takes the six ports after its first and after its meeting point, too
_LONGEST = 48  # of a name: Kubernetes takes 63, and suffixes are added


class Server(NamedTuple):
    """One replica of a deployment.

    ``port`` takes requests on the first part's node; ``transfer_port`` is the first of as many as the replica has
    devices, and ``rendezvous_port`` is where parts on several nodes meet. Ports are numbered on each node anew.
    """

    deployment: Deployment
    number: int
    parts: tuple[Part, ...]
    port: int
    transfer_port: int
    rendezvous_port: int

    @property
    def name(self) -> str:
        """Name the replica."""
        return f"{slug(self.deployment.name)}-r{self.number}"

    @property
    def nodes(self) -> list[str]:
        """Name the nodes, the one that takes requests first."""
        return [node_name(self.deployment.inventory, part.node) for part in self.parts]

    @property
    def head(self) -> str:
        """Name the node that takes requests."""
        return self.nodes[0]

    @property
    def url(self) -> str:
        """Return where requests go, with the node's address as a variable."""
        return f"http://${{{address_of(self.head)}}}:{self.port}"


class Target(NamedTuple):
    """What requests of a workload are sent to: a mixed deployment, or a pair behind a router. Its name is a slug.

    ``rate`` is the planned load [request/s], ``clients`` the requests under way then (Little's law).
    """

    name: str
    workload: str
    rate: float
    clients: float
    prefill: tuple[Server, ...]
    decode: tuple[Server, ...]
    mixed: tuple[Server, ...]
    port: int

    @property
    def metrics_port(self) -> int:
        """Return where the router of a pair shows its metrics."""
        return METRICS + self.port - ROUTER


def slug(name: str) -> str:
    """Return a name as folders, containers and Kubernetes take it: small letters, digits and hyphens, not too many."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST].strip("-") or "unnamed"


def node_name(inventory: str, node: int) -> str:
    """Name a node of an inventory."""
    return f"{slug(inventory)}-{node}"


def clients_of_one(d: Deployment) -> int:
    """Return how many requests are planned to be under way on one replica."""
    return max(1, round(d.requests_in_flight / d.replicas))


def address_of(node: str) -> str:
    """Return the variable that holds a node's address."""
    return node.upper().replace("-", "_") + "_ADDRESS"


def servers(plan: Plan, facts: Facts) -> list[Server]:
    """Return every replica of the plan's deployments, placed, in the plan's order.

    Raises:
        InputError: names of deployments, workloads or inventories that files could not tell apart.
    """
    _check_names(plan, facts)
    found: dict[tuple[int, int], tuple[Part, ...]] = {}
    mine = [(i, d) for i, d in enumerate(plan.deployments) if isinstance(d, Deployment)]
    for inventory, known in facts.inventory.items():
        keys = [(i, r) for i, d in mine if d.inventory == inventory for r in range(d.replicas)]
        sizes = [plan.deployments[i].devices_per_replica for i, _ in keys]
        found |= dict(zip(keys, place(sizes, known.stock), strict=True))
    listed: list[Server] = []
    on_node: dict[tuple[str, int], list[int]] = {}  # devices of the replicas before, by node
    for i, d in mine:
        for r in range(d.replicas):
            before = on_node.setdefault((d.inventory, found[i, r][0].node), [])
            first = len(before) * _APART
            listed.append(Server(d, r, found[i, r], HTTP + first, TRANSFER + sum(before), RENDEZVOUS + first))
            before.append(d.devices_per_replica)
    return listed


def _check_names(plan: Plan, facts: Facts) -> None:
    groups = [[d.name for d in plan.deployments], list(facts.workloads), list(facts.inventory)]
    for names in groups:
        known: dict[str, str] = {}
        for name in names:
            other = known.setdefault(slug(name), name)
            if other != name:
                msg = f"'{other}' and '{name}' are both '{slug(name)}' in files; rename one of them in the scenario"
                raise InputError.single("", msg)


def targets(plan: Plan, facts: Facts, placed: Sequence[Server]) -> list[Target]:
    """Return where the requests of each workload go, and how many."""
    return [target._replace(port=ROUTER + n) for n, target in enumerate(_targets(plan, facts, placed))]


def _targets(plan: Plan, facts: Facts, placed: Sequence[Server]) -> Iterator[Target]:
    by_name: dict[str, tuple[Server, ...]] = {}
    for server in placed:
        by_name[server.deployment.name] = (*by_name.get(server.deployment.name, ()), server)
    ours = [d for d in plan.deployments if isinstance(d, Deployment)]
    for d in ours:
        if d.role == "mixed":
            yield Target(slug(d.name), d.workload, d.requests_per_s, d.requests_in_flight, (), (), by_name[d.name], 0)
    for pair in dict.fromkeys(d.pair for d in ours if d.pair):
        members = [d for d in ours if d.pair == pair]
        routes = [route for route in plan.routes if route.decode in {d.name for d in members}]
        tokens = facts.workloads[members[0].workload].output_tokens
        clients = sum(
            r.requests_per_s * ((r.ttft_ms or 0.0) + (r.tpot_ms or 0.0) * (tokens - 1)) / MILLISECONDS_PER_SECOND
            for r in routes
        )
        sides = {
            role: [s for d in members if d.role == role for s in by_name[d.name]] for role in ("prefill", "decode")
        }
        yield Target(
            slug(pair), members[0].workload, sum(route.requests_per_s for route in routes), clients,
            tuple(sides["prefill"]), tuple(sides["decode"]), (), 0,
        )  # fmt: skip
