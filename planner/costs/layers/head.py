"""The last stage's head: final normalisation, logits, their gathering, and sampling."""

import sympy

from planner.costs import symbols as s
from planner.costs.operators.collective import all_gather
from planner.costs.operators.gemm import unquantised
from planner.costs.operators.norm import rms_norm
from planner.costs.work import Batch, Layer, Operator

_SAMPLING_FLOPS = 5  # scale, maximum, exponential, sum, compare: per logit


def layer(batch: Batch) -> Layer:
    """Logits of the rows that are sampled, split by vocabulary (Megatron-LM, arXiv 1909.08053, §3)."""
    return Layer(
        name="head",
        operators=(
            rms_norm("final_norm", batch.logit_rows, s.hidden),
            unquantised("head", batch.logit_rows, s.hidden, s.vocab / s.tp),
            all_gather("logits_all_gather", batch.logit_rows * s.vocab * s.activation_bytes),
            sampling(batch.logit_rows),
        ),
    )


def sampling(rows: sympy.Expr) -> Operator:
    """Logits are read, widened to fp32 and read again for the token: on every device over the whole vocabulary.

    Counted from what engines do after gathering (vLLM's sampler works in fp32); orderings such as top-p come on top.
    """
    logits = rows * s.vocab
    return Operator("sampling", vector_flops=_SAMPLING_FLOPS * logits, hbm_bytes=2 * logits * s.logit_bytes)
