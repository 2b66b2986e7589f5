"""The table of symbols: every name a cost expression may use, with its unit and meaning.

Everything is SI. Counts (tokens, heads, layers, experts) are numbers without dimension, so that products
such as bytes per token times tokens need no bookkeeping; the unit column tells what is counted.
"""

from dataclasses import dataclass

import sympy


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the nomenclature."""

    symbol: sympy.Symbol
    latex: str
    unit: str
    meaning: str
    origin: str  # architecture | precision | configuration | workload | hardware | efficiency


_entries: list[Entry] = []


def _define(origin: str, name: str, latex: str, unit: str, meaning: str) -> sympy.Symbol:
    symbol = sympy.Symbol(name, nonnegative=True)
    _entries.append(Entry(symbol, latex, unit, meaning, origin))
    return symbol


layers = _define("architecture", "layers", "L", "1", "transformer layers")
hidden = _define("architecture", "hidden", "h", "1", "width of the residual stream")
ffn_width = _define("architecture", "ffn_width", "I", "1", "width of the dense feed-forward layer")
heads = _define("architecture", "heads", "a", "1", "query heads")
kv_heads = _define("architecture", "kv_heads", "a_{kv}", "1", "key and value heads")
head_dim = _define("architecture", "head_dim", "d_h", "1", "width of a head")
vocab = _define("architecture", "vocab", "V", "1", "vocabulary entries")
qk_norm = _define("architecture", "qk_norm", "q_n", "1", "1 where queries and keys are normalised, else 0")
vocab_matrices = _define(
    "architecture", "vocab_matrices", "n_V", "1", "vocabulary matrices on the fullest device: embedding, head"
)
vocab_matrices_total = _define(
    "architecture",
    "vocab_matrices_total",
    "N_V",
    "1",
    "vocabulary matrices of the model: 1 where tied, else 2",
)
experts = _define("architecture", "experts", "E", "1", "routed experts per layer")
experts_per_token = _define("architecture", "experts_per_token", "k", "1", "experts each token goes to")
expert_width = _define("architecture", "expert_width", "I_e", "1", "width of one expert")

weight_bytes = _define("precision", "weight_bytes", "s_w", "byte", "bytes of one weight, scales included")
kv_bytes = _define("precision", "kv_bytes", "s_{kv}", "byte", "bytes of one cached key or value")
activation_bytes = _define("precision", "activation_bytes", "s_a", "byte", "bytes of one activation")
logit_bytes = _define("precision", "logit_bytes", "s_l", "byte", "bytes of one logit while sampling")

tp = _define("configuration", "tp", "t", "1", "tensor-parallel degree")
pp = _define("configuration", "pp", "p", "1", "pipeline stages")
ep = _define("configuration", "ep", "e", "1", "expert-parallel degree")
token_budget = _define("configuration", "token_budget", "M", "1", "most tokens of a step (max_num_batched_tokens)")
running = _define("configuration", "running", "b", "1", "mean requests decoding in a replica")
padded_batch = _define(
    "configuration", "padded_batch", "b_g", "1", "decode tokens of a step after padding to a captured graph"
)
captured = _define("configuration", "captured", "g", "1", "1 where a decode step fits a captured graph, else 0")

isl = _define("workload", "isl", "n_i", "1", "prompt tokens of a request")
osl = _define("workload", "osl", "n_o", "1", "generated tokens of a request")

gemm_flops = _define("hardware", "gemm_flops", "F", "flop/s", "dense matrix rate at the weights' precision")
bf16_flops = _define("hardware", "bf16_flops", "F_{16}", "flop/s", "dense matrix rate in bf16")
hbm_bandwidth = _define("hardware", "hbm_bandwidth", "W", "byte/s", "device memory bandwidth")
tp_bandwidth = _define("hardware", "tp_bandwidth", r"\beta_t", "byte/s", "link rate of a tensor-parallel group")
tp_latency = _define(
    "hardware",
    "tp_latency",
    r"\alpha_t",
    "s",
    "latency of an all-reduce over 4 devices, software included; 0 for one",
)
pp_bandwidth = _define("hardware", "pp_bandwidth", r"\beta_p", "byte/s", "link rate between pipeline stages")
pp_latency = _define("hardware", "pp_latency", r"\alpha_p", "s", "latency between pipeline stages; 0 for one stage")

mfu_gemm = _define("efficiency", "mfu_gemm", r"\eta_F", "1", "share of the matrix rate reached by projections")
mfu_head = _define("efficiency", "mfu_head", r"\eta_V", "1", "share of the matrix rate reached in bf16")
mfu_attention = _define("efficiency", "mfu_attention", r"\eta_a", "1", "share of the matrix rate in attention")
mfu_experts = _define("efficiency", "mfu_experts", r"\eta_e", "1", "share of the matrix rate reached by experts")
mbu_weights = _define("efficiency", "mbu_weights", r"\mu_w", "1", "share of memory bandwidth reading weights")
mbu_experts = _define("efficiency", "mbu_experts", r"\mu_e", "1", "share of memory bandwidth reading experts")
mbu_activations = _define("efficiency", "mbu_activations", r"\mu_a", "1", "share of memory bandwidth in bf16 traffic")
mbu_kv_cache = _define("efficiency", "mbu_kv_cache", r"\mu_{kv}", "1", "share of memory bandwidth reading KV cache")
link_efficiency = _define("efficiency", "link_efficiency", r"\eta_\beta", "1", "share of the link rate reached")
expert_imbalance = _define(
    "efficiency",
    "expert_imbalance",
    r"\iota",
    "1",
    "load of the hottest expert rank over the mean; 1 without EP",
)
expert_token_exponent = _define("efficiency", "expert_token_exponent", "x_e", "1", "tokens^x independent draws")
attention_floor = _define("efficiency", "attention_floor", r"f_a", "s", "least time of an attention layer in a graph")
dense_ffn_floor = _define("efficiency", "dense_ffn_floor", "f_d", "s", "least time of a dense FFN layer in a graph")
moe_ffn_floor = _define("efficiency", "moe_ffn_floor", "f_m", "s", "least time of an MoE layer in a graph")
eager_floor = _define("efficiency", "eager_floor", "f_l", "s", "least time of a layer launched without a graph")
host_step = _define("efficiency", "host_step", "h_s", "s", "host time per step")
host_sequence = _define("efficiency", "host_sequence", "h_b", "s", "host time per running request and step")
host_request = _define("efficiency", "host_request", "h_r", "s", "host time per request before its first token")
host_prompt_token = _define("efficiency", "host_prompt_token", "h_t", "s", "host time per prompt token")
occupancy_sigmas = _define(
    "efficiency",
    "occupancy_sigmas",
    "z",
    "1",
    "standard deviations of running requests left free above the mean",
)
block_size = _define("configuration", "block_size", "k_b", "1", "tokens of a KV cache block")

SYMBOLS: tuple[Entry, ...] = tuple(_entries)
ARGUMENTS: tuple[str, ...] = tuple(sorted(entry.symbol.name for entry in SYMBOLS))
UNITS: dict[str, str] = {entry.symbol.name: entry.unit for entry in SYMBOLS}
