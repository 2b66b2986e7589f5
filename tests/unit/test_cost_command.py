"""`planner cost`, and the prices of single operators behind it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.catalog import load_efficiencies, load_hardware
from planner.cli import app
from planner.columns import operators
from planner.columns.evaluate import figures, structure_of, symbol_values
from planner.columns.operators import _axes, _setting
from planner.costs import codegen, compile
from planner.costs.serving import expressions
from planner.costs.structure import Structure
from planner.costs.work import Expressions
from planner.errors import EXIT_BAD_INPUT, InputError

TEXTBOOK = {"efficiencies": "textbook"}


def run(*arguments):
    result = CliRunner().invoke(app, ["cost", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    return result


CASES = [
    ("Qwen3-32B", ("--hardware", "h100-sxm", "--tp", 2)),
    ("Qwen3-32B", ("--hardware", "h100-sxm", "--tp", 2, "--new-tokens", 512, "--requests", 4, "--context", 0)),
    ("deepseek-ai/DeepSeek-R1", ("--hardware", "ascend-910c", "--engine", "vllm-ascend", "--precision", "int8",
                                 "--attention-dp", 16, "--ep", 16)),
    ("deepseek-ai/DeepSeek-R1", ("--hardware", "h200-sxm", "--tp", 8, "--acceptance", "0.8,0.6")),
    ("zai-org/GLM-5", ("--hardware", "b200-sxm", "--tp", 8, "--pp", 2)),
    ("Qwen/Qwen3.5-397B-A17B", ("--hardware", "b200-sxm", "--tp", 8)),
    ("openai/gpt-oss-120b", ("--hardware", "h100-sxm", "--requests", 2000)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "options"), CASES)
def test_shares_add_up_to_the_step(model, options):
    found = json.loads(run(model, *options, "--json").stdout)
    parts = sum(
        layer["layers"]
        * (sum(o["seconds"] for o in layer["operators"]) - layer["saved_seconds"] + layer["floor_seconds"])
        for layer in found["layers"]
    )
    stage = found["seconds"] / found["stages"]
    host = stage - found["device_seconds"]
    assert parts + found["launch_seconds"] + found["draft_seconds"] + host == pytest.approx(stage, rel=1e-9)
    assert all(o["share"] > 0 for layer in found["layers"] for o in layer["operators"])


@pytest.mark.parametrize(
    ("model", "hardware", "engine", "axes"),
    [
        ("Qwen3-32B", "h100-sxm", "vllm", {"tp": 2}),
        ("DeepSeek-V3", "h200-sxm", "sglang", {"tp": 1, "attention_dp": 8, "ep": 8}),
        ("Qwen3-30B-A3B", "ascend-910b3", "vllm-ascend", {"tp": 4, "ep": 4}),
    ],
)
def test_a_step_equals_the_compiled_one(model, hardware, engine, axes):
    """Two paths, one result: operators summed up in SymPy, and the generated NumPy function."""
    setting = _setting(hardware, "textbook", model, engine)
    precision = setting.architecture.precision
    given = _axes(precision, **axes) | {"mean_running": np.array([64.0]), "max_num_batched_tokens": np.array([8192.0])}
    definitions = expressions(Structure(*structure_of(setting))).definitions
    kernel = compile._execute(codegen.source(Expressions(definitions, {str(name): name for name in definitions})))
    with np.errstate(all="ignore"):
        compiled = float(np.ravel(kernel(**symbol_values(setting, given))["decode_step"])[0])
    dp = axes.get("attention_dp", 1)
    # the compiled step lets the fullest of dp ranks read more than the mean
    spread = 1024 * np.sqrt(np.log(dp) / (6 * 64 / dp))
    context = setting.workload.input_tokens + setting.workload.output_tokens / 2 + spread
    step = operators.step_seconds(
        hardware=hardware, **TEXTBOOK, model=model, backend=engine, sequences=64, context=context, **axes
    )
    assert step == pytest.approx(compiled, rel=1e-9)
    assert figures(setting, given)["tpot_steady"] > step  # prompts come on top


def test_formulas_are_those_that_apply_and_latex_has_them_all():
    found = json.loads(run("Qwen3-32B", "--hardware", "h100-sxm", "--tp", 2, "--json").stdout)
    formulas = {o["operator"]: o["formulas"] for layer in found["layers"] for o in layer["operators"]}
    assert formulas["attention_decode"]["flop"] == "4*decode_context*decoding*head_dim*heads*queries/tp"
    assert not any("Either" in text for parts in formulas.values() for text in parts.values())
    latex = run("Qwen3-32B", "--hardware", "h100-sxm", "--tp", 2, "--latex").stdout
    filled = [layer for layer in found["layers"] if layer["operators"]]
    assert latex.count(r"\begin{align*}") == latex.count(r"\end{align*}") == len(filled)
    assert latex.count("&=") == sum(len(parts) for layer in found["layers"] for o in layer["operators"]
                                    for parts in [o["formulas"]])  # fmt: skip


def test_ascend_engines_are_called_by_their_names():
    options = ("Qwen3-32B", "--hardware", "ascend-910b3", "--engine", "vllm-ascend", "--tp", 8)
    assert "MTE" in run(*options, "--requests", 512).stdout
    assert "Cube" in run(*options, "--requests", 8, "--new-tokens", 2048, "--context", 0).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hardware", "h1000"), "unknown hardware 'h1000'"),
        (("--hardware", "h100-sxm", "--engine", "vlm"), "did you mean 'vllm'?"),
        (("--hardware", "h100-sxm", "--precision", "fp16"), "'fp16' is none of bf16"),
        (("--hardware", "h100-sxm", "--acceptance", "1.5"), "must be shares of drafts accepted"),
        (("--hardware", "h100-sxm", "--calibration", "nowhere"), "unknown calibration 'nowhere'"),
    ],
)
def test_wrong_names_are_said(options, message):
    result = run("Qwen3-32B", *options)
    assert result.exit_code == EXIT_BAD_INPUT
    assert message in result.output


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--engine", "mindie"), "mindie runs on devices of Huawei, not NVIDIA"),
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--tp", 3), "tp must divide the 64 query heads"),
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--pp", 65), "pp must be at most 64"),
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--ep", 4), "are for models with experts"),
        ("Qwen3-30B-A3B", ("--hardware", "h200-sxm", "--ep", 8), "ep must divide tp × attention_dp, 1"),
        ("Qwen3-30B-A3B", ("--hardware", "h200-sxm", "--tp", 8, "--ep", 4), "vllm: ep is 1 or the whole group"),
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--context", 50000), "longer than the model's 40960 tokens"),
        ("Qwen3-32B", ("--hardware", "h200-sxm", "--acceptance", "0.8"), "has no draft module of its own"),
        ("DeepSeek-V3", ("--hardware", "ascend-910b3", "--engine", "vllm-ascend"), "does not serve weights in fp8"),
    ],
)
def test_what_no_engine_would_run_is_not_priced(model, options, message):
    result = run(model, *options)
    assert result.exit_code == EXIT_BAD_INPUT
    assert message in result.output


def test_a_model_that_does_not_fit_is_said_to():
    assert "they do not fit" in run("DeepSeek-V3", "--hardware", "h100-sxm").stdout
    assert "they do not fit" not in run("DeepSeek-V3", "--hardware", "h200-sxm", "--tp", 8).stdout


def test_drafts_say_what_a_token_takes():
    options = ("DeepSeek-V3", "--hardware", "h200-sxm", "--tp", 8, "--acceptance")
    few, many = (json.loads(run(*options, share, "--json").stdout) for share in ("0.1", "0.9"))
    assert (few["accepted"], many["accepted"]) == (1.1, 1.9)
    assert few["seconds"] == many["seconds"]
    assert "a request gains 1.90 tokens by it" in run(*options, "0.9").stdout


def test_a_prompt_takes_as_long_through_a_pipeline_as_without():
    """All stages work on it one after the other; each holds its share of the layers."""
    options = ("Llama-3.1-8B", "--hardware", "h100-sxm", "--requests", 1, "--context", 0, "--new-tokens", 8192)
    alone, staged = (json.loads(run(*options, "--pp", pp, "--json").stdout)["seconds"] for pp in (1, 8))
    assert alone < staged < 1.05 * alone


def test_ranks_that_share_out_one_prompt_wait_for_the_one_that_has_it():
    options = ("Qwen3-30B-A3B", "--hardware", "h100-sxm", "--requests", 1, "--context", 0, "--new-tokens", 4096)
    one = json.loads(run(*options, "--json").stdout)["seconds"]
    eight = json.loads(run(*options, "--attention-dp", 8, "--ep", 8, "--json").stdout)["seconds"]
    assert eight > 0.3 * one  # attention is as long on one rank; experts are shared out


def test_handing_a_cache_over_takes_its_bytes_over_the_port():
    found = json.loads(run("Qwen3-32B", "--hardware", "h100-sxm", "--tp", 2, "--context", 4095, "--decode-tp", 4,
                           "--json").stdout)["transfer"]  # fmt: skip
    assert found["sent"] == 4096 * 256 * 1024 / 2  # 256 KiB per token over two devices
    assert found["received"] == found["sent"] / 2
    assert found["seconds"] == pytest.approx(found["sent"] / (50e9 * 0.5) + 6e-6 + 10e-6)


# --- single operators ----------------------------------------------------------------------------------------------


def test_a_large_product_takes_its_flops():
    h100, reached = load_hardware("h100-sxm").value, load_efficiencies("textbook").value.compute.gemm_bf16.value
    seconds = operators.gemm_seconds(hardware="h100-sxm", **TEXTBOOK, precision="bf16", m=8192, k=8192, n=8192)
    assert seconds == pytest.approx(2 * 8192**3 / (h100.peak_flops["bf16"].value * reached), rel=0.01)
    twice = operators.gemm_seconds(hardware="h100-sxm", **TEXTBOOK, precision="bf16", m=8192, k=8192, n=8192, groups=2)
    assert twice == 2 * seconds


def test_reading_memory_takes_its_bandwidth():
    h100, reached = load_hardware("h100-sxm").value, load_efficiencies("textbook").value.bandwidth.weights.value
    seconds = operators.memory_read_seconds(hardware="h100-sxm", **TEXTBOOK, size=1e9)
    assert seconds == pytest.approx(1e9 / (h100.memory.bandwidth.value * reached))


def test_a_collective_of_one_device_is_free():
    alone = operators.collective_seconds(hardware="h100-sxm", **TEXTBOOK, operation="all_reduce", size=1e6, devices=1)
    assert alone == 0
    across = [
        operators.collective_seconds(hardware="h100-sxm", **TEXTBOOK, operation="all_reduce", size=1e9, devices=n)
        for n in (8, 16)
    ]
    assert across[1] > 1.5 * across[0]  # two nodes share out over one port per device


def test_sending_between_nodes_takes_the_slower_link():
    near, far = (
        operators.transfer_seconds(hardware="h100-sxm", **TEXTBOOK, size=1e9, scope=scope)
        for scope in ("scale-up", "scale-out")
    )
    assert far / near == pytest.approx(450 / 50, rel=0.01)


def test_degrees_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="ep × moe_tp must be tp × attention_dp"):
        operators.step_seconds(hardware="h200-sxm", **TEXTBOOK, model="DeepSeek-V3", backend="vllm", sequences=8,
                               context=100, tp=8, ep=2, moe_tp=2)  # fmt: skip
    with pytest.raises(InputError, match="must be dispatch or combine"):
        operators.expert_exchange_seconds(hardware="h200-sxm", **TEXTBOOK, operation="shuffle", tokens=1, hidden=1,
                                          top_k=1, devices=2, bytes_per_value=2)  # fmt: skip
