"""Predicting rows: what is refused and why, faults of a CSV file all at once, limits of a closed loop of clients."""

import numpy as np
import pytest

from planner.catalog import load_efficiencies
from planner.catalog.rows import read_rows, rows_from_data
from planner.columns.closed_loop import closed_loop
from planner.columns.evaluate import figures
from planner.errors import InputError
from planner.posterior import Posterior
from planner.posterior.fields import with_fields
from planner.prediction import predict_rows

HEADER = (
    "id,model,system,backend,backend_version,precision,tp,pp,attention_dp,moe_tp,ep,concurrency,isl,osl,length_spread"
)
GOOD = {
    "id": "a", "model": "Qwen3-32B", "system": "h100-sxm", "backend": "vllm", "backend_version": "0.20",
    "precision": "bf16", "tp": 4, "pp": 1, "attention_dp": 1, "moe_tp": 1, "ep": 1, "concurrency": 16, "isl": 1000,
    "osl": 100,
}  # fmt: skip
EXPERTS = {"model": "Qwen3-30B-A3B", "moe_tp": 4}


def row(**changes):
    (found,) = rows_from_data([(2, GOOD | changes)])
    return found


@pytest.fixture(scope="module")
def predict():
    posterior = Posterior(load_efficiencies("textbook").value)
    return lambda *rows: predict_rows(rows, posterior)


# --- the file


def written(folder, *lines, header=HEADER):
    path = folder / "rows.csv"
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    return path


def problems(path):
    with pytest.raises(InputError) as caught:
        read_rows(path)
    return [str(problem) for problem in caught.value.problems]


LINE = "{id},Qwen3-32B,h100-sxm,vllm,0.20,bf16,{tp},1,1,4,1,{clients},1000,100,{spread}"


def line(**changes):
    return LINE.format(**{"id": "a", "tp": 4, "clients": 16, "spread": "fixed"} | changes)


def test_rows_are_read_with_what_they_leave_out(tmp_path):
    first, second = read_rows(written(tmp_path, line(), line(id="b", clients=2, spread='"uniform[0.8,1.0]"')))
    named = {
        field: getattr(first, field) for field in ("id", "model", "system", "backend", "backend_version", "precision")
    }
    assert named == {name: GOOD[name] for name in named}
    assert (first.tp, first.pp, first.attention_dp, first.moe_tp, first.ep) == (4, 1, 1, 4, 1)
    assert (first.concurrency, first.isl, first.osl, first.length_factor) == (16.0, 1000, 100, 1.0)
    assert (second.concurrency, second.length_factor) == (2, pytest.approx(0.9))
    assert (first.kv_precision, first.acceptance) == ("", ())
    drafted = row(speculative_acceptance="0.8, 0.6", kv_precision="fp8")
    assert (drafted.acceptance, drafted.kv_precision) == ((0.8, 0.6), "fp8")


def test_every_fault_of_a_file_is_named_with_its_line(tmp_path):
    path = written(
        tmp_path,
        line(),
        line(id="b", tp="many", clients=0),
        line(id="a"),
        line(id="", spread="often"),
        line(id="c", tp=1.5),
    )
    found = problems(path)
    expected = (
        (3, "tp", "must be a number of at least 1 (got 'many')"),
        (3, "concurrency", "must be a number of at least 1 (got '0')"),
        (4, "id", "'a' stands in line 2 already"),
        (5, "id", "is empty"),
        (5, "length_spread", "must be 'fixed' or like 'uniform[0.8,1.0]' (got 'often')"),
        (6, "tp", "must be a whole number (got '1.5')"),
    )
    assert len(found) == len(expected)
    for number, field, message in expected:
        assert any(f":{number}:" in text and field in text and message in text for text in found), message


def test_missing_columns_are_all_named_with_a_likely_name(tmp_path):
    header = HEADER.replace("concurrency", "concurency").replace("backend,", "")
    found = problems(written(tmp_path, line(), header=header))
    assert len(found) == 2
    assert any("backend" in text for text in found)
    assert any("concurrency" in text and "concurency" in text for text in found)


@pytest.mark.parametrize(
    ("field", "value"),
    [("isl", ""), ("isl", "nan"), ("osl", "-3"), ("tp", "1e10"), ("concurrency", "inf"), ("model", " ")]
    + [("length_spread", s) for s in ("uniform[1.0,0.8]", "uniform[0,1]", "uniform[1]", "uniform(0.8,1)")]
    + [("speculative_acceptance", s) for s in ("0", "1.1", "0.5;0.4", "0.5,")],
)
def test_a_value_that_is_none_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        row(**{field: value})


def test_a_spreadsheet_s_mark_before_the_header_is_ignored(tmp_path):
    assert read_rows(written(tmp_path, line(), header="\ufeff" + HEADER))[0].id == "a"


@pytest.mark.parametrize(
    ("header", "row_text", "message"),
    [
        (HEADER + ",isl", line() + ",5", "isl: this column is there twice"),
        (HEADER, line() + ",more", "has more cells than there are columns"),
        ("", "", "no row of column names; expected id,model,"),
        (HEADER.replace(",", ";"), line(), "no row of column names; expected id,model,"),
    ],
)
def test_a_file_of_another_shape_is_one_clear_fault(tmp_path, header, row_text, message):
    (found,) = problems(written(tmp_path, row_text, header=header))
    assert message in found


def test_a_row_shorter_than_its_header_lacks_values(tmp_path):
    with pytest.raises(InputError, match="osl"):
        read_rows(written(tmp_path, "a,Qwen3-32B,h100-sxm,vllm,0.20,bf16,4,1,1,4,1,16,1000"))


# --- refusals

REFUSED = {
    "unknown model": ({"model": "Qwen9-9B"}, "model: "),
    "unknown device": ({"system": "abacus"}, "system: "),
    "unknown engine": ({"backend": "steam"}, "backend: "),
    "ambiguous device": ({"system": "h100"}, "may be h100-nvl or h100-pcie or h100-sxm"),
    "precision": ({"precision": "fp3"}, "precision 'fp3' is none of bf16, fp8"),
    "experts do not fit the group": (EXPERTS | {"ep": 2}, "ep × moe_tp must be tp × attention_dp, 4"),
    "expert parallel without experts": ({"ep": 4}, "ep and attention_dp are for models with experts"),
    "ranks without experts": ({"attention_dp": 2}, "ep and attention_dp are for models with experts"),
    "heads": ({"tp": 3}, "tp must divide the 64 query heads"),
    "experts": (EXPERTS | {"tp": 1, "attention_dp": 3, "moe_tp": 1, "ep": 3}, "ep must divide the 128 experts"),
    "stages": ({"pp": 65}, "pp must be at most 64, the layers"),
    "one token": ({"osl": 1}, "osl must be at least 2: with one token there is no decode"),
    "length": ({"isl": 40_960}, "requests are longer than the model's 40960 tokens"),
    "vendor": ({"system": "ascend-910b3"}, "vllm runs on devices of NVIDIA, AMD"),
    "cache format": ({"kv_precision": "int3"}, "kv_precision 'int3' is none of"),
    "drafts": ({"speculative_acceptance": "0.8"}, "the model has no draft module of its own"),
    "weights the engine lacks": (
        {"system": "ascend-910b3", "backend": "vllm-ascend", "precision": "fp8"},
        "vllm-ascend does not serve weights in fp8; it serves bf16, int8, int4",
    ),
    "cache the engine lacks": (
        {"system": "ascend-910b3", "backend": "vllm-ascend", "kv_precision": "fp8"},
        "vllm-ascend has no KV cache in fp8",
    ),
    "cache no engine has": ({"kv_precision": "int8"}, "kv_precision 'int8' is none of bf16, fp8"),
    "a rule of the engine": (
        EXPERTS | {"tp": 8, "ep": 2, "moe_tp": 4},
        "vllm: ep is 1 or the whole group: the engine spreads experts over all of it",
    ),
    "lengths beyond their nominal ones": (
        {"isl": 30_000, "length_spread": "uniform[1.0,2.0]"},
        "requests are longer than the model's 40960 tokens",
    ),
    "no budget for prompts": (
        {"max_num_seqs": 1, "max_num_batched_tokens": 1},
        "max_num_batched_tokens leaves no room for prompts beside the requests that decode",
    ),
    "memory": ({"model": "Llama-3.1-405B", "tp": 1}, "weights and buffers leave no room for one request"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_row_that_cannot_run_is_refused_with_its_reason(predict, name):
    changes, reason = REFUSED[name]
    (found,) = predict(row(**changes))
    assert (found.status, found.ttft_ms, found.tpot_ms) == ("refused", None, None)
    assert reason in found.reason


def test_answers_keep_the_order_of_the_rows_and_do_not_depend_on_their_company(predict):
    rows = [row(id="1"), row(id="2", model="nothing"), row(id="3", **EXPERTS), row(id="4", concurrency=64)]
    rows += [row(id="5", system="h200-sxm"), row(id="6", isl=2000)]
    together = predict(*rows)
    assert [found.id for found in together] == ["1", "2", "3", "4", "5", "6"]
    assert [found.status for found in together] == ["ok", "refused", "ok", "ok", "ok", "ok"]
    assert [found.id for found in predict(*reversed(rows))] == ["6", "5", "4", "3", "2", "1"]
    for given, expected in zip(rows, together, strict=True):
        (alone,) = predict(given)
        assert alone.status == expected.status
        if expected.status == "ok":
            assert (alone.ttft_ms, alone.tpot_ms) == pytest.approx((expected.ttft_ms, expected.tpot_ms), rel=1e-5)
    assert predict() == []


def test_lengths_are_scaled_by_their_spread(predict):
    spread, fixed = predict(row(id="a", length_spread="uniform[0.8,1.0]"), row(id="b", isl=900, osl=90))
    assert (spread.ttft_ms, spread.tpot_ms) == pytest.approx((fixed.ttft_ms, fixed.tpot_ms), rel=1e-9)


def test_faster_devices_and_fewer_bits_answer_sooner(predict):
    base, device, bits = predict(row(id="a"), row(id="b", system="h200-sxm"), row(id="c", precision="fp8"))
    assert max(device.tpot_ms, bits.tpot_ms) < base.tpot_ms


# --- a closed loop of clients


@pytest.fixture
def loop(setting_of, axes_of):
    """Return a function that gives latencies of some numbers of clients on a replica of Qwen3-32B."""

    def found(clients, most=1024, lockstep=0, separate=False, **axes):
        setting = setting_of("Qwen3-32B")
        if separate:
            scheduling = setting.engine.scheduling
            prefill = scheduling.prefill.model_copy(update={"value": "separate"})
            scheduling = scheduling.model_copy(update={"prefill": prefill})
            setting = setting._replace(engine=setting.engine.model_copy(update={"scheduling": scheduling}))
        clients = np.asarray(clients, dtype=float)
        given = axes_of(**{"tp": 4, "attention_dp": 1, "isl": 1000, "osl": 200} | axes)
        given = {
            name: np.broadcast_to(values, clients.shape) for name, values in given.items() if name != "mean_running"
        }
        limits = np.full(clients.shape, float(most)), np.full(clients.shape, float(lockstep))
        fixed = given | {"batch_varies": np.zeros(1)}
        return setting, fixed, closed_loop(setting, given, clients, *limits)

    return found


def test_one_client_sees_no_queue(loop):
    setting, axes, seen = loop([1])
    alone = figures(setting, {**axes, "mean_running": seen.running})
    unqueued = alone["host_request_seconds"] + alone["prompt_seconds"] + alone["residual_seconds"]
    assert seen.ttft == pytest.approx(unqueued)
    assert seen.tpot == pytest.approx(alone["tpot_steady"])
    # Little's law: one request, decoding except while its prompt is worked on
    assert seen.running == pytest.approx(199 * seen.tpot / (seen.ttft + 199 * seen.tpot), rel=1e-3)


def test_requests_decoding_follow_little_s_law(loop):
    _, _, seen = loop([2, 8, 32, 128])
    decoding = 199 * seen.tpot
    expected = seen.admitted * decoding / (seen.ttft + decoding)
    assert seen.running == pytest.approx(expected, rel=0.02)


def test_more_clients_wait_longer_and_get_more_done(loop):
    """Throughput never falls but by steps of padding, a captured size or a tile: at most 6 %."""
    clients = np.arange(1, 400)
    _, _, seen = loop(clients)
    throughput = clients / (seen.ttft + 199 * seen.tpot)
    best = np.maximum.accumulate(throughput)
    assert (throughput / best).min() >= 0.94
    assert throughput[-1] > 20 * throughput[0]
    assert (seen.ttft[1:] / seen.ttft[:-1]).min() > 0.98
    assert (seen.tpot[1:] / seen.tpot[:-1]).min() > 0.98


def test_clients_beyond_what_is_admitted_wait_for_a_turn(loop):
    _, _, few = loop([16, 64, 256], most=16)
    assert few.admitted.tolist() == [16, 16, 16]
    assert few.tpot == pytest.approx([few.tpot[0]] * 3)
    # those turned away wait for the whole of others' answers
    whole = few.ttft[0] + 199 * few.tpot[0]
    assert few.ttft[1] - few.ttft[0] == pytest.approx(3 * whole)
    assert few.ttft[2] - few.ttft[0] == pytest.approx(15 * whole)


def test_the_cache_limits_the_batch(loop):
    _, _, short = loop([8, 4000], most=5000, tp=1, isl=8000)
    assert short.admitted[0] <= 8
    assert 1 < short.admitted[1] < 40
    _, _, room = loop([8, 4000], most=5000, tp=8, isl=8000)
    assert room.admitted[1] > 8 * short.admitted[1]


def test_no_room_admits_no_one(setting_of, axes_of):
    setting = setting_of("Llama-3.1-70B")
    axes = {k: v for k, v in axes_of(attention_dp=1, isl=1000, osl=200).items() if k != "mean_running"}
    assert closed_loop(setting, axes, np.array([4.0]), np.array([64.0]), np.zeros(1)).admitted == 0


def test_where_prompts_go_first_and_lengths_are_equal_clients_come_in_waves(loop):
    """A request waits for half of the other prompts before its first token, and decodes while the rest run."""
    setting, axes, seen = loop([32], lockstep=1, separate=True)
    found = figures(setting, {**axes, "mean_running": seen.running})
    half = 31 / 2 * found["prompt_service_seconds"]
    assert seen.ttft == pytest.approx(found["host_request_seconds"] + found["prompt_seconds"] + half, rel=1e-6)
    crest = figures(setting, {**axes, "mean_running": np.array([32.0])})["decode_seconds"]
    assert seen.tpot == pytest.approx(crest + half / 200, rel=1e-6)
    mixed = loop([32], lockstep=1)[2].ttft, loop([32], lockstep=0)[2].ttft
    assert mixed[0] == mixed[1]


# --- replicas of one role, and what a run turned on


DECODE = {
    "model": "DeepSeek-V3", "system": "ascend-910c", "backend": "sglang", "backend_version": "", "precision": "int8",
    "tp": 1, "attention_dp": 32, "moe_tp": 1, "ep": 32, "concurrency": 32 * 16, "isl": 2000, "osl": 500,
    "expert_exchange": "all_to_all",
}  # fmt: skip


def test_a_replica_of_one_role_has_one_time_only(predict):
    decode, prefill = predict(row(**DECODE, role="decode"), row(**DECODE | {"id": "b", "osl": 1}, role="prefill"))
    assert (decode.status, decode.ttft_ms) == ("ok", None)
    assert (prefill.status, prefill.tpot_ms) == ("ok", None)
    assert decode.tpot_ms > 0 < prefill.ttft_ms


def test_a_decode_replica_is_the_closed_loop_whose_prompts_cost_nothing(predict):
    """With long answers a mixed replica hardly prefills, so both come to the same step."""
    load = {"osl": 20_000, "isl": 1, "concurrency": 16}
    decode, mixed = predict(row(**load, role="decode"), row(**load | {"id": "b"}))
    assert decode.tpot_ms == pytest.approx(mixed.tpot_ms, rel=0.02)


def test_twice_the_prompts_take_twice_as_long_at_full_steps(predict):
    one, two = predict(
        row(**DECODE, role="prefill", max_num_batched_tokens=4000),
        row(
            **DECODE | {"id": "b", "concurrency": 2 * DECODE["concurrency"]},
            role="prefill",
            max_num_batched_tokens=4000,
        ),
    )
    assert two.ttft_ms == pytest.approx(2 * one.ttft_ms)


def test_micro_batches_and_even_experts_shorten_a_step_of_one_expert_per_rank(predict):
    """Where a rank holds more, reading its weights twice costs what the exchange of half a batch hides."""
    wide = DECODE | {"attention_dp": 256, "ep": 256, "concurrency": 256 * 48, "role": "decode"}
    changes = ({}, {"id": "b", "overlaps": "dual_batch_overlap"}, {"id": "c", "expert_load": "even"})
    plain, overlapped, even = predict(*(row(**wide | change) for change in changes))
    assert overlapped.tpot_ms < 0.95 * plain.tpot_ms
    assert even.tpot_ms < 0.95 * plain.tpot_ms
    narrow = DECODE | {"role": "decode"}
    plain, overlapped = predict(row(**narrow), row(**narrow | {"id": "b", "overlaps": "dual_batch_overlap"}))
    assert overlapped.tpot_ms == plain.tpot_ms


def test_copies_let_more_ranks_share_experts(predict):
    wide = DECODE | {"attention_dp": 320, "ep": 320}
    alone, copied = predict(row(**wide, role="decode"), row(**wide | {"id": "b"}, role="decode", redundant_experts=64))
    assert alone.reason == "ep must divide the 256 experts"
    assert copied.status == "ok"


def test_a_draft_head_serves_models_without_a_module_of_their_own(predict):
    chances = {"speculative_acceptance": "0.8,0.8"}
    refused, drafted, plain = predict(row(**chances), row(**chances | {"id": "b", "drafter": "eagle"}), row(id="c"))
    assert "drafter may be eagle" in refused.reason
    assert drafted.tpot_ms < plain.tpot_ms


def test_an_overlap_that_the_engine_cannot_turn_on_is_refused(predict):
    (found,) = predict(row(overlaps="time_travel"))
    assert found.reason == "vllm has no overlap 'time_travel' that could be turned on"


def test_words_are_checked_where_they_stand():
    with pytest.raises(InputError, match=r"role.*must be mixed or prefill or decode, or empty for mixed"):
        row(role="spectator")
    with pytest.raises(InputError, match=r"expert_load.*must be even, or empty for the calibration's"):
        row(expert_load="odd")


def test_an_engine_without_whole_graphs_launches_every_layer():
    """vllm-ascend captured only parts of a step up to 0.20: with one request, 64 layers wait for the host."""
    slow = Posterior(with_fields(load_efficiencies("textbook").value, {"latency.eager_layer": 1e-3}))
    here = {"system": "ascend-910b3", "backend": "vllm-ascend", "concurrency": 1}
    before, since = (row(**here, id=version, backend_version=version) for version in ("0.20", "0.21"))
    parts, whole = predict_rows([before, since], slow)
    assert parts.tpot_ms == pytest.approx(64, rel=0.1)
    assert whole.tpot_ms < 32
