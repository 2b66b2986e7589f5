"""The table of symbols: every name a cost expression may use, with its unit and meaning.

Everything is SI. Counts (tokens, heads, layers, experts) are numbers without dimension, so that products
such as bytes per token times tokens need no bookkeeping; the unit column tells what is counted.
"""

from dataclasses import dataclass
from functools import partial

import sympy


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the nomenclature."""

    symbol: sympy.Symbol
    latex: str
    unit: str
    meaning: str
    origin: str  # architecture | precision | configuration | workload | hardware | efficiency

    @property
    def is_flag(self) -> bool:
        """Whether the symbol is 1 or 0."""
        return self.meaning.startswith("1 where")


_entries: list[Entry] = []


def _define(origin: str, name: str, latex: str, unit: str, meaning: str) -> sympy.Symbol:
    symbol = sympy.Symbol(name, nonnegative=True)
    _entries.append(Entry(symbol, latex, unit, meaning, origin))
    return symbol


_architecture = partial(_define, "architecture")
_precision = partial(_define, "precision")
_configuration = partial(_define, "configuration")
_workload = partial(_define, "workload")
_hardware = partial(_define, "hardware")
_efficiency = partial(_define, "efficiency")

layers = _architecture("layers", "L", "1", "transformer layers")
gqa_layers = _architecture("gqa_layers", "L_g", "1", "layers with full grouped-query attention")
sliding_layers = _architecture("sliding_layers", "L_w", "1", "layers whose attention sees a sliding window")
mla_layers = _architecture("mla_layers", "L_l", "1", "layers with multi-head latent attention")
sparse_mla_layers = _architecture("sparse_mla_layers", "L_s", "1", "layers with latent attention over selected tokens")
gated_delta_layers = _architecture("gated_delta_layers", r"L_{\Delta}", "1", "layers with gated-delta linear attention")
nsa_layers = _architecture("nsa_layers", "L_n", "1", "layers with native sparse attention")
dense_layers = _architecture("dense_layers", "L_d", "1", "layers with a dense feed-forward part")
moe_layers = _architecture("moe_layers", "L_m", "1", "layers with routed experts")
hidden = _architecture("hidden", "h", "1", "width of the residual stream")
norms = _architecture("norms", "n_n", "1", "normalisations per layer")
norm_vectors = _architecture("norm_vectors", "v_n", "1", "weight vectors of a normalisation: 1 RMS, 2 with bias")
heads = _architecture("heads", "a", "1", "query heads")
kv_heads = _architecture("kv_heads", "a_{kv}", "1", "key and value heads")
head_dim = _architecture("head_dim", "d_h", "1", "width of a head")
qk_norm = _architecture("qk_norm", "q_n", "1", "1 where queries and keys are normalised, else 0")
qk_norm_joint = _architecture(
    "qk_norm_joint", "q_j", "1", "1 where that normalisation is over the whole width, not over each head, else 0"
)
qk_norm_width = _architecture("qk_norm_width", "w_q", "1", "weights of the query and key normalisation of a layer")
query_gate = _architecture(
    "query_gate", "g_q", "1", "1 where a gate as wide as the queries multiplies the attention's output, else 0"
)
attention_bias_width = _architecture("attention_bias_width", "w_b", "1", "biases and sinks of an attention layer")
window = _architecture("window", "w", "1", "tokens a sliding window holds")
query_rank = _architecture("query_rank", "r_q", "1", "width of the compressed queries; 0 where they are not compressed")
latent_rank = _architecture("latent_rank", "r_{kv}", "1", "width of the compressed keys and values")
nope_dim = _architecture("nope_dim", "d_n", "1", "width of a head's keys without position")
rope_dim = _architecture("rope_dim", "d_r", "1", "width of the key part with position, shared by all heads")
value_dim = _architecture("value_dim", "d_v", "1", "width of a head's values")
index_heads = _architecture("index_heads", "a_i", "1", "heads of the indexer that selects tokens")
index_dim = _architecture("index_dim", "d_i", "1", "width of an indexer head")
index_topk = _architecture("index_topk", "k_i", "1", "tokens the indexer selects")
nsa_block = _architecture("nsa_block", "l_c", "1", "tokens that native sparse attention compresses into one")
nsa_stride = _architecture("nsa_stride", r"\delta", "1", "tokens between two such blocks, which overlap")
nsa_selected_block = _architecture("nsa_selected_block", "l_l", "1", "tokens of a block it selects whole")
nsa_selected = _architecture("nsa_selected", "n_l", "1", "blocks it selects")
nsa_window = _architecture("nsa_window", "w_n", "1", "latest tokens it always reads")
delta_key_heads = _architecture("delta_key_heads", r"a_{\Delta k}", "1", "key heads of linear attention")
delta_value_heads = _architecture("delta_value_heads", r"a_{\Delta v}", "1", "value heads of linear attention")
delta_key_dim = _architecture("delta_key_dim", r"d_{\Delta k}", "1", "width of its key heads")
delta_value_dim = _architecture("delta_value_dim", r"d_{\Delta v}", "1", "width of its value heads")
delta_conv = _architecture("delta_conv", r"c_{\Delta}", "1", "taps of its convolution")
ffn_width = _architecture("ffn_width", "I", "1", "width of a dense feed-forward layer")
ffn_matrices = _architecture("ffn_matrices", "n_I", "1", "matrices of a dense feed-forward layer: 3 gated, 2 plain")
ffn_bias = _architecture("ffn_bias", "b_I", "1", "1 where these matrices have biases, else 0")
experts = _architecture("experts", "E", "1", "routed experts per layer")
experts_per_token = _architecture("experts_per_token", "k", "1", "experts each token goes to")
expert_width = _architecture("expert_width", "I_e", "1", "width of one expert")
shared_width = _architecture("shared_width", "I_s", "1", "width of the shared experts together")
shared_gate = _architecture("shared_gate", "g_s", "1", "1 where a gate multiplies the shared experts' output, else 0")
router_bias = _architecture("router_bias", "b_r", "1", "1 where the router has biases, else 0")
expert_bias = _architecture("expert_bias", "b_e", "1", "1 where experts have biases, else 0")
grouped_routing = _architecture(
    "grouped_routing", "g_e", "1", "1 where tokens take equally many experts of every device's group, else 0"
)
vocab = _architecture("vocab", "V", "1", "vocabulary entries")
positions = _architecture("positions", "n_p", "1", "rows of a learned position table; 0 where positions are rotary")
vocab_matrices = _architecture(
    "vocab_matrices", "n_V", "1", "vocabulary matrices on the fullest device: embedding, head"
)
vocab_matrices_total = _architecture(
    "vocab_matrices_total", "N_V", "1", "vocabulary matrices of the model: 1 where tied, else 2"
)

attention_weight_bytes = _precision(
    "attention_weight_bytes", "s_a", "byte", "bytes of one attention weight, scales included"
)
ffn_weight_bytes = _precision(
    "ffn_weight_bytes", "s_f", "byte", "bytes of one weight of dense layers and shared experts"
)
expert_weight_bytes = _precision("expert_weight_bytes", "s_e", "byte", "bytes of one expert weight")
attention_narrow = _precision(
    "attention_narrow", "n_a", "1", "1 where kernels of their own narrow what attention projections take, 0.5 for half"
)
ffn_narrow = _precision("ffn_narrow", "n_f", "1", "1 where they narrow what dense feed-forward products take, likewise")
experts_narrow = _precision("experts_narrow", "n_e", "1", "1 where they narrow what experts' products take, likewise")
kv_bytes = _precision("kv_bytes", "s_{kv}", "byte", "bytes of one cached key or value")
index_bytes = _precision("index_bytes", "s_i", "byte", "bytes of one cached indexer key value, scale included")
state_bytes = _precision("state_bytes", r"s_{\Delta}", "byte", "bytes of one value of a linear-attention state")
activation_bytes = _precision("activation_bytes", "s_x", "byte", "bytes of one activation")
dispatch_bytes = _precision("dispatch_bytes", "s_d", "byte", "bytes of one activation on its way to an expert")
logit_bytes = _precision("logit_bytes", "s_l", "byte", "bytes of one logit while sampling")

tp = _configuration("tp", "t", "1", "tensor-parallel degree of the attention")
pp = _configuration("pp", "p", "1", "pipeline stages")
dp = _configuration("dp", "d", "1", "attention ranks that serve different requests (attention data parallelism)")
ep = _configuration("ep", "e", "1", "expert-parallel degree")
cp = _configuration(
    "cp", "c", "1", "devices that share out the cached tokens of a request (decode context parallelism)"
)
redundant_experts = _configuration(
    "redundant_experts", "E_r", "1", "copies of hot experts per layer, beyond one of each"
)
token_budget = _configuration(
    "token_budget", "M", "1", "most tokens of a step on one attention rank (max_num_batched_tokens)"
)
running = _configuration("running", "b", "1", "mean requests decoding in a replica")
busy = _configuration("busy", r"\rho", "1", "share of its time that a replica which only prefills works")
padded_batch = _configuration(
    "padded_batch", "b_g", "1", "decoding requests of a step after padding to a captured graph"
)
captured = _configuration("captured", "g", "1", "1 where a decode step fits a captured graph, else 0")
admitted = _configuration("admitted", "N_a", "1", "requests of a closed loop that a replica takes up at once")
crest_batch = _configuration(
    "crest_batch", "b_c", "1", "decoding requests of a step with all admitted ones, after padding to a captured graph"
)
crest_captured = _configuration("crest_captured", "g_c", "1", "1 where that step fits a captured graph, else 0")
prefill_ranks = _configuration("prefill_ranks", "P_r", "1", "attention ranks of all prefill replicas of a closed loop")
decode_replicas = _configuration("decode_replicas", "P_d", "1", "decode replicas of a closed loop")
prompt_pace = _configuration(
    "prompt_pace", "D_p", "s", "least time between two prompts that leave a prefill rank, transfers included"
)
prefill_alone = _configuration("prefill_alone", "T_p", "s", "time of a prompt while no other prefill rank works")
prefill_crowded = _configuration("prefill_crowded", "T_c", "s", "time of a prompt while all ranks of its replica work")
prefill_host = _configuration("prefill_host", "T_h", "s", "host time of a request on the prefill side")
transfer_exposed = _configuration("transfer_exposed", "T_x", "s", "what a request waits for the move of its cache")
lockstep = _workload("lockstep", "v_l", "1", "1 where all requests have one length, else 0")
in_waves = _configuration(
    "in_waves", "f_W", "1", "1 where clients prefill together, decode together and are answered together, else 0"
)
score_passes = _configuration(
    "score_passes", "n_S", "1", "times attention's scores pass device memory: 0 where the kernel keeps them on chip"
)
sequence_blocks = _configuration(
    "sequence_blocks",
    "f_S",
    "1",
    "1 where the attention kernel spreads one head's tokens over cores, 0 where a core takes whole heads",
)
request_batches = _configuration(
    "request_batches",
    "f_R",
    "1",
    "1 where a batch runs until its longest request ends, 0 where requests join and leave at every step",
)
whole_reserved = _configuration(
    "whole_reserved",
    "f_L",
    "1",
    "1 where a request's cache is reserved at once and for the longest request, 0 where it grows by blocks",
)
block_size = _configuration("block_size", "k_b", "1", "tokens of a KV cache block")
context_workspace = _configuration(
    "context_workspace", "n_w", "1", "tokens of context whose latent is expanded at a time for later chunks of a prompt"
)
drafts = _configuration("drafts", r"\kappa", "1", "draft tokens verified per request and step")
accepted = _configuration(
    "accepted", "A", "1", "tokens a request gains per step: 1, and the drafts expected to be accepted"
)
draft_layers = _configuration(
    "draft_layers", r"L_\kappa", "1", "layers of the model's own draft module (MTP); 0 without one"
)
draft_seconds = _configuration("draft_seconds", r"h_\kappa", "s", "time of one draft token of a separate draft model")
mixed_steps = _configuration(
    "mixed_steps", "m", "1", "1 where prompt chunks share steps with decoding requests, 0 where they stall them"
)
chunked = _configuration("chunked", "c_p", "1", "1 where prompts are cut to fit a step, else 0")
host_overlap = _configuration(
    "host_overlap", "o_h", "1", "1 where the engine prepares a step while the device runs the one before, else 0"
)
all_to_all = _configuration(
    "all_to_all", "x", "1", "1 where tokens go to the devices of their experts only, 0 where to all devices"
)
fused_norm = _configuration("fused_norm", "f_n", "1", "1 where all-reduce and normalisation are one kernel, else 0")
fused_moe_reduce = _configuration(
    "fused_moe_reduce",
    "f_r",
    "1",
    "1 where the experts' sum, the all-reduce after it and the normalisation are one kernel, else 0",
)
fused_norm_most = _configuration("fused_norm_most", "m_n", "1", "most tokens of a step in which they are one kernel")
fused_moe_most = _configuration(
    "fused_moe_most", "m_r", "1", "most tokens of a step in which these three are one kernel"
)
mla_prolog = _configuration(
    "mla_prolog", "f_p", "1", "1 where the products before latent attention are one kernel, else 0"
)
overlap_matmul = _configuration(
    "overlap_matmul", "f_o", "1", "1 where an all-reduce runs behind the product before it, else 0"
)
overlap_least = _configuration(
    "overlap_least", "m_o", "1", "fewest tokens of a step in which an all-reduce runs behind a product"
)
overlap_prompts = _configuration("overlap_prompts", "p_o", "1", "1 where it does so in steps with prompts only, else 0")
fused_dispatch = _configuration(
    "fused_dispatch", "f_d", "1", "1 where dispatch and combine are part of the experts' kernel, else 0"
)
dual_batch = _configuration("dual_batch", "f_b", "1", "1 where two half batches hide each other's exchange, else 0")
dual_least = _configuration("dual_least", "m_b", "1", "fewest tokens of a step that is cut into two half batches")
weight_prefetch = _configuration(
    "weight_prefetch", "f_w", "1", "1 where weights are fetched during the collective before them, else 0"
)
shared_overlap = _configuration(
    "shared_overlap", "f_s", "1", "1 where shared experts run beside the routed ones, else 0"
)
shared_most = _configuration(
    "shared_most", "m_s", "1", "most tokens of a step in which shared experts run beside routed ones"
)

prefill_tp = _configuration("prefill_tp", "t_p", "1", "tensor-parallel degree of the prefill side")
decode_tp = _configuration("decode_tp", "t_d", "1", "tensor-parallel degree of the decode side")
prefill_pp = _configuration("prefill_pp", "p_p", "1", "pipeline stages of the prefill side")
decode_pp = _configuration("decode_pp", "p_d", "1", "pipeline stages of the decode side")
senders = _configuration("senders", "n_s", "1", "prefill replicas that send to one decode replica at once")
layerwise = _configuration("layerwise", "l", "1", "1 where caches are pushed layer by layer, 0 where pulled")
relayout = _configuration("relayout", "l_r", "1", "1 where the two sides lay the cache out differently, else 0")

isl = _workload("isl", "n_i", "1", "prompt tokens of a request")
osl = _workload("osl", "n_o", "1", "generated tokens of a request")
least_osl = _workload("least_osl", "n_o^-", "1", "fewest generated tokens of a request")
most_osl = _workload("most_osl", "n_o^+", "1", "most generated tokens of a request")
clients = _workload("clients", "N", "1", "clients of a closed loop, each with one request outstanding")
longest = _workload("longest", "n_x", "1", "longest request the engine must accept (max_model_len)")
batch_varies = _workload("batch_varies", "v_b", "1", "1 where requests come at random, 0 where their number is fixed")
hot_share = _workload("hot_share", r"\phi", "1", "share of experts that are hot; 0 where all are equally popular")
hot_load = _workload("hot_load", r"\lambda", "1", "tokens of a hot expert over the mean of all experts")

cores = _hardware("cores", "N_c", "1", "cores that blocks of a kernel are spread over")
attention_flops = _hardware("attention_flops", "F_a", "flop/s", "dense matrix rate at the attention weights' precision")
ffn_flops = _hardware("ffn_flops", "F_f", "flop/s", "dense matrix rate at the precision of dense feed-forward weights")
expert_flops = _hardware("expert_flops", "F_e", "flop/s", "dense matrix rate at the experts' precision")
index_flops = _hardware(
    "index_flops", "F_i", "flop/s", "dense matrix rate of the indexer: 8 bit where the device has it"
)
bf16_flops = _hardware("bf16_flops", "F_{16}", "flop/s", "dense matrix rate in bf16")
vector_flops = _hardware("vector_flops", "F_v", "flop/s", "rate of element-wise work")
hbm_bandwidth = _hardware("hbm_bandwidth", "W", "byte/s", "device memory bandwidth")
hand_off = _hardware("hand_off", "W_c", "byte/s", "rate between matrix and vector units where they are separate cores")
host_link = _hardware("host_link", "W_h", "byte/s", "rate between device and host memory")
tp_near = _hardware("tp_near", "t_n", "1", "devices of a tensor-parallel group in one scale-up domain")
tp_bandwidth = _hardware("tp_bandwidth", r"\beta_t", "byte/s", "link rate of a tensor-parallel group within a domain")
tp_latency = _hardware(
    "tp_latency", r"\alpha_t", "s", "latency of a round over 4 devices of it, software included; 0 for one"
)
tp_far_bandwidth = _hardware("tp_far_bandwidth", r"\beta_t'", "byte/s", "link rate of a device between domains")
tp_far_latency = _hardware(
    "tp_far_latency", r"\alpha_t'", "s", "latency between domains of a tensor-parallel group; 0 within one"
)
ep_near = _hardware("ep_near", "e_n", "1", "devices of an expert group in one scale-up domain")
ep_bandwidth = _hardware("ep_bandwidth", r"\beta_e", "byte/s", "link rate of an expert group within a domain")
ep_latency = _hardware("ep_latency", r"\alpha_e", "s", "latency of a round over 4 devices of it; 0 for one")
ep_far_bandwidth = _hardware(
    "ep_far_bandwidth", r"\beta_e'", "byte/s", "link rate of a device of an expert group between domains"
)
ep_far_latency = _hardware(
    "ep_far_latency", r"\alpha_e'", "s", "latency between domains of an expert group; 0 within one"
)
pp_bandwidth = _hardware("pp_bandwidth", r"\beta_p", "byte/s", "link rate between pipeline stages")
pp_latency = _hardware("pp_latency", r"\alpha_p", "s", "latency between pipeline stages; 0 for one stage")

transfer_bandwidth = _hardware(
    "transfer_bandwidth", r"\beta_s", "byte/s", "link rate of a device between prefill and decode pools"
)
transfer_latency = _hardware("transfer_latency", r"\alpha_s", "s", "latency between these pools")

mfu_projections = _efficiency(
    "mfu_projections", r"\eta_a", "1", "share of the matrix rate reached by attention projections"
)
mfu_ffn = _efficiency("mfu_ffn", r"\eta_f", "1", "share of the matrix rate reached by dense feed-forward products")
mfu_experts = _efficiency("mfu_experts", r"\eta_e", "1", "share of the matrix rate reached by experts")
mfu_head = _efficiency("mfu_head", r"\eta_V", "1", "share of the matrix rate reached in bf16")
mfu_attention = _efficiency(
    "mfu_attention", r"\eta_s", "1", "share of the matrix rate reached over cached keys and values"
)
vector_share = _efficiency("vector_share", r"\eta_v", "1", "share of the element-wise rate reached")
mbu_projections = _efficiency("mbu_projections", r"\mu_a", "1", "share of memory bandwidth reading attention weights")
mbu_ffn = _efficiency("mbu_ffn", r"\mu_f", "1", "share of memory bandwidth reading dense feed-forward weights")
mbu_experts = _efficiency("mbu_experts", r"\mu_e", "1", "share of memory bandwidth reading experts")
mbu_activations = _efficiency("mbu_activations", r"\mu_x", "1", "share of memory bandwidth in bf16 traffic")
mbu_kv_cache = _efficiency("mbu_kv_cache", r"\mu_{kv}", "1", "share of memory bandwidth reading KV cache")
link_efficiency = _efficiency("link_efficiency", r"\eta_\beta", "1", "share of the link rate reached")
tile_rows = _efficiency("tile_rows", "m_t", "1", "rows of the tile that large products are cut into")
least_tile_rows = _efficiency("least_tile_rows", "m_0", "1", "rows of the smallest tile")
sparse_head_tile = _efficiency("sparse_head_tile", "a_0", "1", "query heads that kernels over selected tokens pad to")
overlap_chunks = _efficiency(
    "overlap_chunks", "n_c", "1", "pieces an overlapped product is cut into; the first is exposed"
)
exchange_latency = _efficiency(
    "exchange_latency", r"\alpha_x", "s", "latency of sending tokens to their experts, or back"
)
attention_floor = _efficiency("attention_floor", "f_a", "s", "least time of a grouped-query attention layer in a graph")
mla_floor = _efficiency("mla_floor", "f_l", "s", "least time of a latent-attention layer in a graph")
index_floor = _efficiency("index_floor", "f_i", "s", "least time of selecting tokens in a graph")
gated_delta_floor = _efficiency(
    "gated_delta_floor", r"f_{\Delta}", "s", "least time of a linear-attention layer in a graph"
)
dense_ffn_floor = _efficiency("dense_ffn_floor", "f_f", "s", "least time of a dense FFN layer in a graph")
moe_ffn_floor = _efficiency("moe_ffn_floor", "f_m", "s", "least time of an MoE layer in a graph")
quantise_floor = _efficiency(
    "quantise_floor", "f_q", "s", "least time of narrowing the activations of a product in less than 16 bit"
)
eager_floor = _efficiency("eager_floor", "f_e", "s", "least time of a layer launched without a graph")
draft_floor = _efficiency("draft_floor", "f_{dr}", "s", "launch and sampling of one pass of a draft module")
host_step = _efficiency("host_step", "h_s", "s", "host time per step")
host_sequence = _efficiency("host_sequence", "h_b", "s", "host time per running request and step")
host_request = _efficiency("host_request", "h_r", "s", "host time per request before its first token")
host_prompt_token = _efficiency("host_prompt_token", "h_t", "s", "host time per prompt token")
host_exposed = _efficiency(
    "host_exposed", "o_e", "1", "share of the host's time per step that shows where the engine schedules ahead"
)
prompt_interference = _efficiency(
    "prompt_interference", r"\kappa_p", "1", "share of what a prompt adds to a step that decoding requests wait for"
)
step_scale = _efficiency("step_scale", r"\sigma_s", "1", "measured time of a step over the modelled one")
ttft_scale = _efficiency("ttft_scale", r"\sigma_f", "1", "measured TTFT over the modelled one, beyond that of steps")
burst_share = _efficiency("burst_share", "w_s", "1", "share of the wait of clients that start together")
equal_burst_share = _efficiency("equal_burst_share", "w_e", "1", "that share where all requests have one length")
wave_share = _efficiency("wave_share", "w_w", "1", "share of the wait of a whole wave before the first token")
turn_share = _efficiency(
    "turn_share",
    r"\kappa_t",
    "1",
    "clients beyond those in the batch, each waiting for a turn, where lengths are equal",
)
burst_growth = _efficiency("burst_growth", r"\gamma_b", "1", "exponent of clients in the wait of a burst")
return_share = _efficiency("return_share", "w_r", "1", "share of that wait of clients that are answered together")
occupancy_sigmas = _efficiency(
    "occupancy_sigmas", "z", "1", "standard deviations of running requests left free above the mean"
)
overflow_share = _efficiency(
    "overflow_share", "q", "1", "share of time in which a normal number exceeds that many standard deviations"
)

# Whole numbers that decide shapes: slopes by them mean nothing.
NOT_SMOOTH = frozenset(
    (cores, tp_near, ep_near, tile_rows, least_tile_rows, sparse_head_tile, overlap_chunks, longest, clients)
)
SYMBOLS: tuple[Entry, ...] = tuple(_entries)
ARGUMENTS: tuple[str, ...] = tuple(sorted(entry.symbol.name for entry in SYMBOLS))
UNITS: dict[str, str] = {entry.symbol.name: entry.unit for entry in SYMBOLS}
