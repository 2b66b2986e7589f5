"""A smooth roofline: matrix work, element-wise work and memory traffic overlap, but not perfectly."""

from planner.costs.devices.seconds import Seconds, combined, matrix_seconds, memory_seconds, vector_seconds
from planner.costs.functions import both
from planner.costs.work import Operator


def seconds(operator: Operator) -> Seconds:
    """Time of one operator on a device whose cores share registers: flop and bytes overlap, communication follows.

    Williams et al., CACM 2009 (roofline); datasheet rates times the efficiencies of the operator.
    """
    matrix, vector, memory = matrix_seconds(operator), vector_seconds(operator), memory_seconds(operator)
    return combined(operator, both(both(matrix, memory), vector), vector)
