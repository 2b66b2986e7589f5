"""Published measurements as requests to the cost model: every row becomes cases to compare, or a reason why not.

`classify` is a pure function of a row. Units: seconds, tokens/s of the whole deployment, tokens, bytes; devices are the
planner's (a die of a 910C).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import measurement_ascend as ascend
import measurement_gpu as gpu
import measurement_operators as operators
import measurement_serving as serving
import yaml
from measurement_work import Classified, Reason, Row, model_name

DATA = Path(__file__).parent / "data"
FILES = {"Ascend": DATA / "ascend_measurements.yaml", "GPU": DATA / "gpu_public_measurements.yaml"}
_TRAINING = ("train", "finetune", "rl")
_STEP_PHASES = ("prefill", "decode")


class Measurements(NamedTuple):
    """One file: its family, its rows and what is known of their sources."""

    family: str
    rows: list[Row]
    sources: Mapping[str, Mapping[str, Any]]


def load() -> list[Measurements]:
    """Read the files of measurements."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    texts = {family: yaml.load(path.read_text(encoding="utf-8"), loader) for family, path in FILES.items()}
    return [Measurements(family, data["rows"], data["sources"]) for family, data in texts.items()]


def _by_phase(row: Row, steps: Callable[[Row], Classified], single: Callable[[Row], Classified]) -> Classified:
    return steps(row) if str(row["phase"]) in _STEP_PHASES else single(row)


def _ascend_cloudmatrix(row: Row) -> Classified:
    return _by_phase(row, ascend.cloudmatrix, operators.cloudmatrix_operator)


def _gpu_cloudmatrix(row: Row) -> Classified:
    return _by_phase(row, gpu.cloudmatrix_gpu, operators.expert_exchange)


def _step3(row: Row) -> Classified:
    return _by_phase(row, gpu.step3, operators.step3_attention)


def _model_only(row: Row) -> Classified:
    """Sources whose one obstacle, once the model is shipped, is that they state no batch."""
    model = model_name(row)
    return model if isinstance(model, Reason) else serving.NO_BATCH


def _gain(_: Row) -> Classified:
    return Reason("a gain over another run, not a figure of one")


def _pair(_: Row) -> Classified:
    return Reason("disaggregated prefill and decode: concurrency not stated")


def _training(_: Row) -> Classified:
    return Reason("training: the cost model has no training costs")


_RULES: Mapping[tuple[str, str], Callable[[Row], Classified]] = {
    ("Ascend", "cm384"): _ascend_cloudmatrix,
    ("Ascend", "xds"): operators.xdeepserve,
    ("Ascend", "ppm"): _model_only,
    ("Ascend", "omnib"): _pair,
    ("Ascend", "sgl"): ascend.sglang_ascend,
    ("Ascend", "cri"): ascend.recipes,
    ("Ascend", "crt"): lambda _: operators.NO_SHAPE,
    ("Ascend", "vla"): ascend.vllm_ascend,
    ("Ascend", "msmf"): operators.hccl,
    ("Ascend", "skn"): operators.expert_exchange,
    ("Ascend", "chi"): serving.chitu,
    ("Ascend", "lim"): operators.ascend_microbenchmark,
    ("Ascend", "mf"): _model_only,
    ("Ascend", "roof"): operators.roofline_study,
    ("Ascend", "gs"): ascend.gpustack_ascend,
    ("GPU", "mlp51"): gpu.mlperf,
    ("GPU", "mlp60"): gpu.mlperf,
    ("GPU", "gs"): gpu.gpustack,
    ("GPU", "ds"): gpu.deepseek_production,
    ("GPU", "cm384"): _gpu_cloudmatrix,
    ("GPU", "lmsys"): gpu.lmsys,
    ("GPU", "msi"): _gain,
    ("GPU", "step3"): _step3,
    ("GPU", "chi"): serving.chitu,
    ("GPU", "deepep"): operators.expert_exchange,
    ("GPU", "split"): gpu.splitwise,
    ("GPU", "dist"): gpu.distserve,
    ("GPU", "llmc"): operators.llmcompass,
    ("GPU", "vid"): operators.vidur,
    ("GPU", "fp"): operators.gpu_microbenchmark,
    ("GPU", "xzw"): operators.gpu_microbenchmark,
}


def classify(family: str, row: Row) -> Classified:
    """Return the cases that a row can be compared in, or why there is none."""
    if str(row["phase"]).startswith(_TRAINING):
        return _training(row)
    rule = _RULES.get((family, str(row["src"])))
    return rule(row) if rule else Reason(f"no rule for this source: {row['src']}")
