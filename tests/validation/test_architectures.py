"""Shipped architectures against published counts, and against a second count made straight from config.json.

The second count follows the model code, tensor by tensor, and shares nothing with the planner's cost expressions.
"""

import json

import pytest

from planner import resources
from planner.catalog import architecture_names, load_about, load_architecture
from planner.errors import InputError

ARCHITECTURES = resources.shipped("architectures")
KIB = 1024


def keys(name):
    """Return the language model's keys, wherever they stand."""
    data = json.loads((ARCHITECTURES / name / "config.json").read_text(encoding="utf-8"))
    return {**data, **data.get("text_config", {})}


def gqa(c, head, *, biases=0, norms=0, query=1):
    q, kv = c["num_attention_heads"] * head, c.get("num_key_value_heads", c["num_attention_heads"]) * head
    return c["hidden_size"] * (query * q + 2 * kv + q) + biases + norms


def gated(hidden, width):
    return 3 * hidden * width


def mla(c):
    hidden, heads, lora_q, lora_kv = (
        c[key] for key in ("hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank")
    )
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    down = hidden * lora_q + lora_q + hidden * (lora_kv + rope) + lora_kv  # with their normalisations
    up = lora_q * heads * (nope + rope) + lora_kv * heads * (nope + value)
    return down + up + heads * value * hidden


def indexer(c):
    heads, width = c["index_n_heads"], c["index_head_dim"]
    return c["q_lora_rank"] * heads * width + c["hidden_size"] * (width + heads) + 2 * width


def gated_delta(c):
    keys_, values = c["linear_num_key_heads"], c["linear_num_value_heads"]
    key, value = keys_ * c["linear_key_head_dim"], values * c["linear_value_head_dim"]
    mixed = 2 * key + value
    projections = c["hidden_size"] * (mixed + value + 2 * values) + value * c["hidden_size"]
    return projections + c["linear_conv_kernel_dim"] * mixed + 2 * values + c["linear_value_head_dim"]


def llama(c):
    h = c["hidden_size"]
    head = c.get("head_dim", h // c["num_attention_heads"])
    norms = 2 * head if c["model_type"].startswith("qwen3") else 0
    layer = gqa(c, head, norms=norms) + gated(h, c["intermediate_size"]) + 2 * h
    return c["num_hidden_layers"] * layer + h, 0, 0


def qwen3_moe(c):
    h = c["hidden_size"]
    layer = gqa(c, c["head_dim"], norms=2 * c["head_dim"]) + c["num_experts"] * h + 2 * h
    return c["num_hidden_layers"] * layer + h, c["num_hidden_layers"], gated(h, c["moe_intermediate_size"])


def mixtral(c):
    h = c["hidden_size"]
    layer = gqa(c, h // c["num_attention_heads"]) + c["num_local_experts"] * h + 2 * h
    return c["num_hidden_layers"] * layer + h, c["num_hidden_layers"], gated(h, c["intermediate_size"])


def minimax_m2(c):
    h, head = c["hidden_size"], c["head_dim"]
    norms = (c["num_attention_heads"] + c["num_key_value_heads"]) * head
    layer = gqa(c, head, norms=norms) + c["num_local_experts"] * (h + 1) + 2 * h
    return c["num_hidden_layers"] * layer + h, c["num_hidden_layers"], gated(h, c["intermediate_size"])


def deepseek(c, attention=mla):
    h, dense = c["hidden_size"], c["first_k_dense_replace"]
    moe = c["num_hidden_layers"] - dense
    shared = gated(h, c["n_shared_experts"] * c["moe_intermediate_size"])
    every = c["num_hidden_layers"] * (attention(c) + 2 * h) + h
    rest = dense * gated(h, c["intermediate_size"]) + moe * (shared + c["n_routed_experts"] * (h + 1))
    return every + rest, moe, gated(h, c["moe_intermediate_size"])


def deepseek_sparse(c):
    return deepseek(c, lambda c: mla(c) + indexer(c))


def gpt_oss(c):
    h, head, heads, width = c["hidden_size"], c["head_dim"], c["num_attention_heads"], c["intermediate_size"]
    biases = (heads + 2 * c["num_key_value_heads"]) * head + h + heads  # the last are sinks
    layer = gqa(c, head, biases=biases) + c["num_local_experts"] * (h + 1) + 2 * h
    return c["num_hidden_layers"] * layer + h, c["num_hidden_layers"], gated(h, width) + 2 * width + h


def gemma3(c):
    h, head = c["hidden_size"], c["head_dim"]
    layer = gqa(c, head, norms=2 * head) + gated(h, c["intermediate_size"]) + 4 * h
    return c["num_hidden_layers"] * layer + h, 0, 0


def opt(c):
    h = c["hidden_size"]
    ffn = 2 * h * c["ffn_dim"] + c["ffn_dim"] + h
    layer = gqa(c, h // c["num_attention_heads"], biases=4 * h) + ffn + 2 * 2 * h
    return c["num_hidden_layers"] * layer + 2 * h + (c["max_position_embeddings"] + 2) * h, 0, 0


def qwen3_5(c):
    h, layers = c["hidden_size"], c["num_hidden_layers"]
    full = c["layer_types"].count("full_attention")
    attention = full * gqa(c, c["head_dim"], norms=2 * c["head_dim"], query=2) + (layers - full) * gated_delta(c)
    shared = gated(h, c["shared_expert_intermediate_size"]) + h
    rest = layers * (shared + c["num_experts"] * h + 2 * h) + h
    return attention + rest, layers, gated(h, c["moe_intermediate_size"])


def pangu(c):
    h = c["hidden_size"]
    head = h // c["num_attention_heads"]
    biases = (c["num_attention_heads"] + 2 * c["num_key_value_heads"]) * head + h
    shared = gated(h, c["shared_expert_intermediate_size"])
    layer = gqa(c, head, biases=biases) + shared + c["num_experts"] * (h + 1) + 2 * h
    return c["num_hidden_layers"] * layer + h, c["num_hidden_layers"], gated(h, c["moe_intermediate_size"])


# What gives the parameters outside the vocabulary and the routed experts, the layers with experts, and an expert.
COUNTERS = {
    "llama": llama, "qwen3": llama, "qwen3_moe": qwen3_moe, "mixtral": mixtral, "minimax_m2": minimax_m2,
    "deepseek_v3": deepseek, "kimi_k2": deepseek, "deepseek_v32": deepseek_sparse, "glm_moe_dsa": deepseek_sparse,
    "gpt_oss": gpt_oss, "gemma3_text": gemma3, "opt": opt, "qwen3_5_moe_text": qwen3_5, "PanguProMoE": pangu,
}  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
TIED = ("gemma3_text", "opt")  # which do not write it: the classes' own default
GEMMA_VOCABULARY = 262_208  # likewise


def count(name):
    """Return total parameters, those one token uses, and those of one vocabulary matrix."""
    c = keys(name)
    rest, moe_layers, expert = COUNTERS[c["model_type"]](c)
    matrix = c.get("vocab_size", GEMMA_VOCABULARY) * c["hidden_size"]
    matrices = 1 if c["model_type"] in TIED else 2
    experts = next((c[key] for key in EXPERTS if key in c), 0)
    positions = (c["max_position_embeddings"] + 2) * c["hidden_size"] if c["model_type"] == "opt" else 0  # one row read
    common = rest + matrices * matrix
    return (
        common + moe_layers * experts * expert,
        common + moe_layers * c.get("num_experts_per_tok", 0) * expert - positions,
        matrix,
    )


def census(name):
    """Return the planner's own counts; imported late, since the rest of this file needs no cost expressions."""
    from planner.columns.census import census as counted

    return counted(load_architecture(name).value)


FIRST = {
    "DeepSeek-V3", "DeepSeek-V3.2", "GLM-5", "Kimi-K2", "Kimi-K2.5", "Llama-3.1-405B", "Llama-3.1-70B", "Llama-3.1-8B",
    "MiniMax-M2.5", "Qwen3-235B-A22B", "Qwen3-30B-A3B", "Qwen3-32B", "Qwen3-8B", "Qwen3.5-397B-A17B", "gpt-oss-120b",
    "gpt-oss-20b",
}  # fmt: skip
THEN = {
    "Gemma-3-27B", "Llama-2-70B", "Llama-2-7B", "Mixtral-8x22B", "Mixtral-8x7B", "OPT-13B", "OPT-66B",
    "Pangu-Pro-MoE-72B-A16B",
}  # fmt: skip
ALL = sorted(FIRST | THEN)


def test_every_shipped_architecture_is_checked_here():
    assert set(architecture_names()) == FIRST | THEN


@pytest.mark.parametrize("name", ALL)
def test_the_second_count_is_as_published(name):
    about = load_about(name)
    published = about.published_parameters
    total, active, matrix = count(name)
    assert total == pytest.approx(published.total, rel=about.total_rounding)
    assert active - about.active_without_embedding * matrix == pytest.approx(
        published.active, rel=about.active_rounding
    )


@pytest.mark.parametrize("name", ALL)
def test_totals_are_within_one_percent_unless_the_publisher_rounds_more(name):
    """Only OPT-13B is printed with two digits that lie further from its tensors."""
    assert load_about(name).total_rounding == (0.039 if name == "OPT-13B" else 0.01)


@pytest.mark.parametrize("name", [name for name in ALL if load_about(name).published_parameters.non_embedding])
def test_parameters_outside_the_vocabulary_are_as_published(name):
    total, _, matrix = count(name)
    rest = total - matrix * (1 if keys(name)["model_type"] in TIED else 2)
    assert rest == pytest.approx(load_about(name).published_parameters.non_embedding, rel=0.005)


@pytest.mark.parametrize("name", ALL)
def test_the_planner_counts_the_same(name):
    """The cost expressions against the second count: small vectors aside, each tensor is in both."""
    total, active, _ = count(name)
    found = census(name)
    assert found["parameters"] == pytest.approx(total, rel=1e-4)
    assert found["active_parameters"] == pytest.approx(active, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("OPT-13B", 800),  # "a single token of OPT-13B takes 800 KB" (PagedAttention, arXiv 2309.06180, section 3)
        ("Llama-3.1-70B", 320),
        ("Llama-2-70B", 320),
        ("DeepSeek-V3", 61 * 576 * 2 / KIB),  # one latent and one rotary key a layer (arXiv 2412.19437, section 2.1.1)
        ("Kimi-K2", 61 * 576 * 2 / KIB),
        ("Mixtral-8x7B", 128),
    ],
)
def test_kv_cache_of_a_token(name, kib):
    assert census(name)["kv_cache_bytes_per_token"] == pytest.approx(kib * KIB, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "attention", "ffn"),
    [
        ("DeepSeek-V3", {"mla": 61}, {"dense": 3, "moe": 58}),
        ("DeepSeek-V3.2", {"sparse_mla": 61}, {"dense": 3, "moe": 58}),
        ("Kimi-K2.5", {"mla": 61}, {"dense": 1, "moe": 60}),
        ("GLM-5", {"sparse_mla": 78}, {"dense": 3, "moe": 75}),
        ("gpt-oss-120b", {"sliding": 18, "gqa": 18}, {"moe": 36}),
        ("Gemma-3-27B", {"sliding": 52, "gqa": 10}, {"dense": 62}),
        ("Qwen3.5-397B-A17B", {"gated_delta": 45, "gqa": 15}, {"moe": 60}),
        ("OPT-13B", {"gqa": 40}, {"dense": 40}),
        ("Pangu-Pro-MoE-72B-A16B", {"gqa": 48}, {"moe": 48}),
    ],
)
def test_layers_are_of_the_kinds_the_config_says(name, attention, ffn):
    found = load_architecture(name).value
    assert found.attention_layers == attention
    assert found.ffn_layers == ffn


@pytest.mark.parametrize("name", ALL)
def test_every_layer_has_one_kind(name):
    found = load_architecture(name).value
    assert sum(found.attention_layers.values()) == sum(found.ffn_layers.values()) == found.num_hidden_layers
    assert set(found.formats) == {"bf16", "fp8", "int8", "int4", "fp4"}
    assert found.formats["bf16"] == ("bf16", "bf16", "bf16")


@pytest.mark.parametrize(
    ("written", "name", "precision", "positions"),
    [
        ("meta-llama/Meta-Llama-3.1-70B", "Llama-3.1-70B", "bf16", 131072),
        ("meta-llama/Meta-Llama-3.1-8B", "Llama-3.1-8B", "bf16", 131072),
        ("meta-llama/Llama-3.3-70B-Instruct", "Llama-3.1-70B", "bf16", 131072),
        ("openai/gpt-oss-120b", "gpt-oss-120b", "fp4", 131072),
        ("deepseek-ai/DeepSeek-R1", "DeepSeek-V3", "fp8", 163840),
        ("deepseek-ai/DeepSeek-V3.2-Exp", "DeepSeek-V3.2", "fp8", 163840),
        ("nvidia/DeepSeek-R1-0528-NVFP4", "DeepSeek-V3", "fp4", 163840),
        ("nvidia/DeepSeek-R1-0528-FP4-v2", "DeepSeek-V3", "fp4", 163840),
        ("Qwen/Qwen3-32B", "Qwen3-32B", "bf16", 40960),
        ("vllm-ascend/Qwen3-8B-W8A8", "Qwen3-8B", "int8", 40960),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "Qwen3-235B-A22B", "fp8", 262144),
        ("Qwen/Qwen3.5-397B-A17B", "Qwen3.5-397B-A17B", "bf16", 262144),
        ("MiniMaxAI/MiniMax-M2.5", "MiniMax-M2.5", "fp8", 196608),
        ("zai-org/GLM-5", "GLM-5", "bf16", 202752),
        ("zai-org/GLM-5-FP8", "GLM-5", "fp8", 202752),
        ("moonshotai/Kimi-K2-Instruct", "Kimi-K2", "fp8", 131072),
        ("moonshotai/Kimi-K2-Thinking", "Kimi-K2", "int4", 262144),
        ("moonshotai/Kimi-K2.5", "Kimi-K2.5", "int4", 262144),
        ("google/gemma-3-27b-it", "Gemma-3-27B", "bf16", 131072),
        ("facebook/opt-13b", "OPT-13B", "bf16", 2048),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "Mixtral-8x7B", "bf16", 32768),
        ("amd/Llama-3.1-405B-Instruct-MXFP4-Preview", "Llama-3.1-405B", "fp4", 131072),
    ],
)
def test_hugging_face_ids_resolve(written, name, precision, positions):
    loaded = load_architecture(written)
    found = loaded.value
    assert (found.name, found.precision, found.max_position_embeddings) == (name, precision, positions)
    assert load_architecture(loaded.name).value == found  # what a plan names leads to the same


@pytest.mark.parametrize("name", ALL)
def test_every_id_of_an_architecture_resolves(name):
    about = load_about(name)
    for written in (about.huggingface_id, *about.also):
        assert load_architecture(written).value.name == name


@pytest.mark.parametrize(
    ("name", "precision", "stored"),
    [
        ("gpt-oss-120b", "fp4", ("bf16", "bf16", "fp4")),
        ("DeepSeek-V3", "fp8", ("fp8", "fp8", "fp8")),
        ("DeepSeek-V3", "fp4", ("bf16", "fp4", "fp4")),
        ("Kimi-K2.5", "int4", ("bf16", "bf16", "int4")),
        ("GLM-5", "fp4", ("bf16", "fp4", "fp4")),
        ("Qwen3.5-397B-A17B", "fp4", ("bf16", "bf16", "fp4")),
        ("Qwen3-235B-A22B", "fp4", ("fp4", "fp4", "fp4")),
    ],
)
def test_checkpoints_store_their_parts_as_they_say(name, precision, stored):
    assert load_architecture(name).value.formats[precision] == stored


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("DeepSeek-V3", ("fp8",)),
        ("Qwen3-32B", ("fp8",)),
        ("GLM-5", ("fp8",)),
        ("Llama-3.1-70B", ()),
        ("gpt-oss-120b", ("fp4",)),
    ],
)
def test_checkpoints_say_whether_scales_are_of_blocks(name, blocks):
    assert load_architecture(name).value.block_scaled == blocks


@pytest.mark.parametrize(
    ("written", "blocks"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, True),
        ({"quant_method": "fp8", "activation_scheme": "static"}, False),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, True),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, False),
    ],
)
def test_a_scale_per_block_is_read_from_the_configuration(written, blocks, tmp_path):
    assert with_quantization(tmp_path, "Qwen3-32B", written).block_scaled == (("fp8",) if blocks else ())


def with_quantization(tmp_path, name, written):
    data = json.loads((ARCHITECTURES / name / "config.json").read_text(encoding="utf-8"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**data, "quantization_config": written}), encoding="utf-8")
    return load_architecture(str(path)).value


@pytest.mark.parametrize(
    ("name", "written", "precision", "stored"),
    [
        ("Qwen3-32B", {"quant_method": "fp8"}, "fp8", ("fp8", "fp8", "fp8")),
        ("Qwen3-32B", {"quant_algo": "FP8", "ignore": ["lm_head"]}, "fp8", ("fp8", "fp8", "fp8")),
        ("Qwen3-32B", {"quant_method": "awq", "bits": 4}, "int4", ("int4", "int4", "int4")),
        (
            "GLM-5",
            {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "ignore": [f"model.layers.{n}.self_attn*" for n in range(78)],
            },
            "fp4",
            ("bf16", "fp4", "fp4"),
        ),
        (  # names within a part that are small leave it as it is
            "MiniMax-M2.5",
            {"quant_method": "fp8", "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
            "fp8",
            ("fp8", "fp8", "fp8"),
        ),
        (
            "Qwen3-30B-A3B",
            {"quant_method": "compressed-tensors", "ignore": ["re:.*self_attn.*"],
             "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 8}}}},
            "int8",
            ("bf16", "int8", "int8"),
        ),
        (
            "Qwen3-32B",
            {"quant_method": "fp8", "ignored_layers": ["model.layers.63.mlp"]},
            "fp8",
            ("fp8", "bf16", "bf16"),
        ),
    ],
    ids=["fp8", "modelopt-without-method", "awq", "modelopt", "names", "expression", "dense"],
)  # fmt: skip
def test_quantization_config_is_understood(name, written, precision, stored, tmp_path):
    found = with_quantization(tmp_path, name, written)
    assert found.precision == precision
    assert found.formats[precision] == stored


@pytest.mark.parametrize(
    "written",
    [
        3,
        [],
        {"quant_method": ["fp8"]},
        {"quant_method": "awq", "bits": [4]},
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "compressed-tensors", "config_groups": 3},
        {"quant_method": "compressed-tensors", "config_groups": {"a": 3}},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"type": [], "num_bits": {}}}}},
        {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"},
        {"quant_method": "fp8", "ignore": ["re:("]},
    ],
    ids=str,
)
def test_other_quantisation_is_refused_by_name(written, tmp_path):
    with pytest.raises(InputError, match=r":\d+:\d+: quantization_config: "):
        with_quantization(tmp_path, "Qwen3-32B", written)
