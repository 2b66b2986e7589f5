"""The last stage's head: final normalisation, logits, and their gathering for the sampler."""

from planner.costs import symbols as s
from planner.costs.operators.collective import all_gather
from planner.costs.operators.gemm import unquantised
from planner.costs.operators.norm import rms_norm
from planner.costs.work import Batch, Layer


def layer(batch: Batch) -> Layer:
    """Logits of the rows that are sampled, split by vocabulary (Megatron-LM, arXiv 1909.08053, §3)."""
    return Layer(
        name="head",
        operators=(
            rms_norm("final_norm", batch.logit_rows, s.hidden),
            unquantised("head", batch.logit_rows, s.hidden, s.vocab / s.tp),
            all_gather("logits_all_gather", batch.logit_rows * s.vocab * s.activation_bytes),
        ),
    )
