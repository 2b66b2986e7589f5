"""Groups of devices that communicate, over a scale-up domain and, where a group is larger, between domains."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.work import Traffic


@dataclass(frozen=True, slots=True)
class Group:
    """Devices that communicate: ``size`` of them, ``near`` of which share a scale-up domain."""

    size: sympy.Expr
    near: sympy.Expr
    near_rate: sympy.Expr
    near_latency: sympy.Expr
    far_rate: sympy.Expr
    far_latency: sympy.Expr

    @property
    def domains(self) -> sympy.Expr:
        """Scale-up domains the group spans."""
        return self.size / self.near

    def latency(self) -> sympy.Expr:
        """Latency of one round within a domain [s].

        It grows with the depth of a tree, α·(½ + log₂(n)/4), so that α is the latency over 4 devices; 0 for one
        device, where α is 0. The form belongs to the textbook value of α (hardware_specs/calibrations/textbook.yaml).
        """
        return self.near_latency * (sympy.Rational(1, 2) + sympy.log(self.near, 2) / 4)

    def traffic(self, near_bytes: sympy.Expr, far_bytes: sympy.Expr, rounds: sympy.Expr) -> Traffic:
        """Return the traffic of a collective that takes ``rounds`` rounds in a domain, and one between domains."""
        latency = rounds * self.latency() + self.far_latency
        return Traffic(near_bytes, self.near_rate, far_bytes, self.far_rate, latency)


TENSOR_GROUP = Group(
    s.tp, s.tp_near, s.tp_bandwidth, s.tp_latency, s.tp_far_bandwidth, s.tp_far_latency
)  # fmt: skip
EXPERT_GROUP = Group(
    s.tp * s.dp, s.ep_near, s.ep_bandwidth, s.ep_latency, s.ep_far_bandwidth, s.ep_far_latency
)  # fmt: skip
