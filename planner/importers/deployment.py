"""What a user says of the deployment that was measured."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from planner import yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError
from planner.schema.base import Count, Name, Schema
from planner.yaml_io import Document


class Deployment(Schema):
    """What a result file does not say: the model, the devices and how the server was started."""

    called = "a deployment"

    model: Name | None = Field(None, description="default: as the result file names it")
    system: Name = Field(description="a device, like h100-sxm")
    backend: Name | None = Field(None, description="the engine: vllm, sglang, trtllm, vllm-ascend, mindie")
    backend_version: str = ""
    precision: Name | None = Field(None, description="of the weights: bf16, fp8, int8, int4, fp4")
    tp: Count | None = None
    pp: Count | None = None
    attention_dp: Count | None = None
    moe_tp: Count | None = None
    ep: Count | None = None
    devices: Count | None = Field(None, description="default: tp × pp × attention_dp")
    concurrency: Count | None = Field(None, description="clients, where the result file does not say")
    length_spread: str = Field("", description="fixed, or like uniform[0.8,1.0], where the result file does not say")
    kv_precision: str = ""
    speculative_acceptance: str = ""
    expert_exchange: str = ""
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None


def load_deployment(path: Path | None, settings: Sequence[str] = ()) -> tuple[Deployment, Document]:
    """Read what the user says of the deployment: a YAML file, ``key=value`` settings, or both.

    Raises:
        InputError: every setting that is none, and every field that is missing, unknown or wrong.
    """
    document = yaml_io.load(path) if path else Document("--set", {}, {(): ("--deployment or --set", 0, 0)})
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise InputError.single(f"--set {setting}", "must be like 'tp=2'")
        read = yaml_io.parse_scalar(value)
        field = Deployment.model_fields.get(name.strip())
        textual = field is not None and field.annotation in (str, Name, Name | None)
        loc = (name.strip(),)
        document = document.with_override(loc, value if textual else read, f"--set {setting}")
    return validate(document, Deployment), document
