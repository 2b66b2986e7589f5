"""Moving a prompt's cache from a prefill pool to a decode pool, counted by hand."""

import pytest
import sympy

from planner.costs.breakdown import number
from planner.costs.structure import Structure
from planner.costs.transfer import transfer

GQA = {
    "layers": 10, "gqa_layers": 10, "kv_heads": 8, "head_dim": 128, "kv_bytes": 2, "block_size": 16, "isl": 1600,
    "cp": 1, "pp": 1, "draft_layers": 0, "hbm_bandwidth": 1e12, "mbu_kv_cache": 0.5, "link_efficiency": 0.5,
    "transfer_bandwidth": 1e10, "transfer_latency": 1e-3, "senders": 1, "layerwise": 0, "relayout": 0,
}  # fmt: skip
MLA = GQA | {"mla_layers": 10, "latent_rank": 512, "rope_dim": 64}
TOKEN = 10 * 2 * 8 * 128 * 2  # byte of cache per token over all heads
LATENT = 10 * 576 * 2


def moved(values, kind="gqa", prefill_seconds=0.0, rate=1.0, **changed):
    """Figures of a transfer by name."""
    found = transfer(Structure((kind,), ("dense",)), sympy.Float(prefill_seconds), sympy.Float(rate))
    known = values | dict.fromkeys(("prefill_tp", "decode_tp", "prefill_pp", "decode_pp"), 1) | changed
    return {name: number(getattr(found, name), known) for name in type(found).__dataclass_fields__}


def test_one_to_one_sends_the_cache_once():
    found = moved(GQA)
    assert found["sent"] == found["received"] == 1600 * TOKEN
    assert found["seconds"] == pytest.approx(1e-3 + 1600 * TOKEN / (1e10 * 0.5))
    assert found["exposed"] == found["seconds"]


@pytest.mark.parametrize(("prefill_tp", "decode_tp"), [(2, 8), (8, 2), (4, 4)])
def test_heads_are_split_so_nothing_is_sent_twice(prefill_tp, decode_tp):
    found = moved(GQA, prefill_tp=prefill_tp, decode_tp=decode_tp)
    assert found["received"] == 1600 * TOKEN / decode_tp
    assert found["sent"] * prefill_tp == found["received"] * decode_tp == 1600 * TOKEN
    slowest = max(found["sent"], found["received"])
    assert found["seconds"] == pytest.approx(1e-3 + slowest / 5e9)


def test_a_latent_goes_whole_to_every_decode_device():
    found = moved(MLA, "mla", prefill_tp=1, decode_tp=8)
    assert found["received"] == 1600 * LATENT
    assert found["sent"] == 8 * 1600 * LATENT
    assert moved(MLA, "mla", prefill_tp=8, decode_tp=8)["sent"] == 1600 * LATENT


def test_senders_that_feed_one_replica_share_its_links():
    alone, together = (moved(GQA, prefill_tp=4, decode_tp=4, senders=senders) for senders in (1, 3))
    assert together["seconds"] - 1e-3 == pytest.approx(3 * (alone["seconds"] - 1e-3))


def test_pushed_layer_by_layer_only_what_outlasts_the_prefill_is_exposed():
    pulled = moved(GQA)["seconds"]
    behind = moved(GQA, prefill_seconds=10 * pulled, layerwise=1)
    assert behind["exposed"] == pytest.approx(pulled / 10)  # the last of ten layers
    ahead = moved(GQA, prefill_seconds=pulled / 2, layerwise=1)
    assert ahead["exposed"] == pytest.approx(pulled - pulled / 2 * 0.9)
    assert moved(GQA, prefill_seconds=10 * pulled)["exposed"] == pulled


def test_another_layout_is_read_and_written_once_more():
    plain, rewritten = (moved(GQA, relayout=flag)["seconds"] for flag in (0, 1))
    assert rewritten - plain == pytest.approx(2 * 1600 * TOKEN / 5e11)


def test_the_cache_is_held_on_both_sides_while_it_moves():
    """Little's law: prompts per second × time of a transfer × bytes."""
    found = moved(GQA, rate=3.0, prefill_tp=2, decode_tp=4)
    assert found["held_prefill"] == pytest.approx(3 * found["seconds"] * 1600 * TOKEN / 2)
    assert found["held_decode"] == pytest.approx(3 * found["seconds"] * 1600 * TOKEN / 4)


def test_512_tokens_of_opt_66b_are_as_distserve_says():
    """1.13 GB is printed (DistServe, OSDI 2024, §3.3), in units of 2^30: 64 layers, 72 heads of 128, 16 bit."""
    opt = GQA | {"layers": 64, "gqa_layers": 64, "kv_heads": 72, "isl": 512}
    assert moved(opt)["sent"] / 2**30 == pytest.approx(1.125)
