"""Published measurements become requests to the cost model in the right units, or say why they cannot."""

import importlib
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def modules():
    """The scripts of benchmarks/, which import each other as scripts do."""
    names = ("measurement_work", "measurement_rows", "public_measurements")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return {name: importlib.import_module(name) for name in names}


@pytest.fixture(scope="module")
def cases(modules):
    """Every row by id: its cases, or the reason."""
    rows = modules["measurement_rows"]
    return {row["id"]: rows.classify(m.family, row) for m in rows.load() for row in m.rows}


def test_every_row_is_classified(modules, cases):
    work = modules["measurement_work"]
    assert len(cases) == 393 + 854
    for name, classified in cases.items():
        if isinstance(classified, work.Reason):
            assert len(classified.text) > 10, name
            assert "no rule" not in classified.text, name
        else:
            assert classified, name
            assert all(case.measured > 0 and case.work for case in classified), name


def test_sources_are_known_and_rows_state_what_they_are(modules):
    for m in modules["measurement_rows"].load():
        assert {row["src"] for row in m.rows} == set(m.sources)
        assert all("title" in about and "access" in about for about in m.sources.values())
        assert len({row["id"] for row in m.rows}) == len(m.rows)


def test_prediction_rows_have_the_columns_of_the_interface_and_consistent_devices(modules, cases):
    work = modules["measurement_work"]
    columns = {
        *("id", "model", "system", "backend", "backend_version", "precision", "devices", "tp", "pp", "attention_dp"),
        *("moe_tp", "ep", "concurrency", "isl", "osl", "length_spread", "maybe_speculative", "anomalous", "hardware"),
        *("role", "overlaps", "expert_load", "redundant_experts", "drafter"),
    }
    served = [
        part.columns
        for classified in cases.values()
        if not isinstance(classified, work.Reason)
        for case in classified
        for part in case.work
        if isinstance(part, work.Serving)
    ]
    assert len(served) > 150
    for row in served:
        assert columns <= set(row)
        tp, pp, dp = (int(row[name]) for name in ("tp", "pp", "attention_dp"))
        assert int(row["devices"]) == tp * pp * dp
        assert int(row["moe_tp"]) * int(row["ep"]) in {1, tp * dp}
        assert int(row["concurrency"]) >= 1
        assert int(row["isl"]) >= 1
        assert int(row["osl"]) >= 1


def test_a_910c_card_is_two_devices_and_a_910b_card_is_one(modules):
    devices = modules["measurement_work"].device_count
    assert devices({"devices": 16, "device_unit": "package", "hardware": "Ascend 910C (CloudMatrix384)"}) == 32
    assert devices({"devices": 8, "device_unit": "card (A3 card = 2 dies)", "hardware": "Atlas 800 A3 (910C)"}) == 16
    assert devices({"devices": 16, "device_unit": "die", "hardware": "Atlas 800 A3 node"}) == 16
    assert devices({"devices": 8, "device_unit": "rank (die)", "hardware": "Atlas 800 A3 (910C)"}) == 8
    assert devices({"devices": 32, "device_unit": "card", "hardware": "4 x Atlas 800 A2 (910B)"}) == 32


def test_a3_nodes_are_one_supernode_where_there_are_several(modules):
    hardware = modules["measurement_work"].hardware_name
    unit = "card (A3 card = 2 dies)"
    node = {"devices": 8, "device_unit": unit, "hardware": "Atlas 800 A3 (910C)"}
    assert hardware(node) == ("ascend-910c-a3", ())
    assert hardware(node | {"devices": 16})[0] == "ascend-910c"
    assert (
        hardware({"devices": 1, "device_unit": "die", "hardware": "Ascend 910C (CloudMatrix384)"})[0] == "ascend-910c"
    )
    assert "910B3" in hardware({"devices": 1, "hardware": "Ascend 910B"})[1][0]


def test_tpot_and_rate_of_one_run_are_one_time(cases):
    # 6144 requests on 64 cards at 2138 tokens/s per card: 96 per card every 44.9 ms.
    by_tpot, by_rate = cases["A163"][0], cases["A164"][0]
    assert by_tpot.measured == pytest.approx(44.9e-3)
    assert by_rate.measured == pytest.approx(by_tpot.measured, rel=1e-3)
    columns = by_tpot.work[0].columns
    assert columns["role"] == "decode"
    assert (columns["system"], columns["precision"], columns["kv_precision"]) == ("ascend-910c", "int8", "fp8")
    assert [columns[name] for name in ("concurrency", "attention_dp", "ep", "isl")] == ["6144", "128", "128", "4096"]
    assert (columns["speculative_acceptance"], columns["expert_load"]) == ("0.7", "even")


def test_a_batch_per_card_becomes_the_batch_of_all_cards(cases):
    # 96 per card on 160 cards at 1943 tokens/s per card
    case = cases["A008"][0]
    columns = case.work[0].columns
    assert case.measured == pytest.approx(96 / 1943)
    assert columns["concurrency"] == str(96 * 160)
    assert (columns["attention_dp"], columns["ep"], columns["redundant_experts"]) == ("320", "320", "64")
    assert (columns["isl"], columns["osl"], columns["overlaps"]) == ("4096", "256", "dual_batch_overlap")


def test_prefill_rate_per_card_becomes_the_time_of_its_tokens(cases):
    # 16 384 tokens per card at 5655 tokens/s per card; 16 cards hold 64 prompts of 4096.
    case = cases["A001"][0]
    columns = case.work[0].columns
    assert case.measured == pytest.approx(16384 / 5655)
    assert [columns[name] for name in ("role", "concurrency", "isl", "attention_dp")] == ["prefill", "64", "4096", "32"]
    assert columns["max_num_batched_tokens"] == "8192"  # of a die
    # 64 prompts of 4096 took 3128 ms, which the row also states as 83 805 tokens/s.
    batch = cases["A165"][0]
    assert batch.measured == pytest.approx(64 * 4096 / 83805, rel=1e-3)
    assert [cases[name][0].work[0].columns["overlaps"] for name in ("A165", "A166")] == ["", "dual_batch_overlap"]
    # on GPUs: 16 384 tokens per device at 7839 tokens/s per device
    assert cases["G0549"][0].measured == pytest.approx(2.090, rel=1e-3)


def test_a_layer_before_and_after_mtp_gives_two_times(cases):
    without, with_mtp = cases["A051"]
    assert without.measured == pytest.approx(61 * 874e-6)
    assert with_mtp.measured == pytest.approx(61 * 1260e-6 / 1.7)
    chances = [case.work[0].columns["speculative_acceptance"] for case in (without, with_mtp)]
    assert chances == ["", "0.7"]


def test_a_run_with_prefill_and_decode_apart_has_the_decode_sides_tpot(modules, cases):
    reason = modules["measurement_work"].Reason
    columns = cases["A080"][0].work[0].columns  # --tp-size 32 --dp-size 16, three drafts
    assert columns["role"] == "decode"
    assert [columns[name] for name in ("tp", "attention_dp", "ep", "devices")] == ["2", "16", "32", "32"]
    assert columns["speculative_acceptance"].count(",") == 2
    assert isinstance(cases["A082"], reason)  # its TTFT is set by both sides
    # 11 218 tokens/s at 40.75 ms: 457 requests decode at once
    assert cases["A115"][0].work[0].columns["concurrency"] == "457"
    assert cases["A129"][0].work[0].columns["precision"] == "bf16"  # the file's correction
    assert isinstance(cases["A123"], reason)  # suspect


def test_mean_acceptance_is_spread_over_the_drafts(modules, cases):
    work = modules["measurement_work"]
    # each after those before it: 0.8 + 0.8 · 0.5
    assert work.accepted_drafts("0.8,0.5") == pytest.approx(1.2)
    chances = work.acceptances(1.44, 3)
    assert len(set(chances.split(","))) == 1
    assert work.accepted_drafts(chances) == pytest.approx(1.44, abs=1e-3)
    # accept length 2.83 counts the token that needs no draft
    columns = cases["A119"][0].work[0].columns
    assert work.accepted_drafts(columns["speculative_acceptance"]) == pytest.approx(1.83, abs=1e-3)


def test_serving_rates_are_of_the_whole_deployment(cases):
    # 303.67 tokens/s per card on 32 cards
    case = cases["A284"][0]
    assert (case.quantity, case.measured) == ("output rate", pytest.approx(9717.44))
    columns = case.work[0].columns
    assert (columns["attention_dp"], columns["ep"], columns["concurrency"]) == ("32", "32", "1024")
    assert cases["A286"][0].measured == pytest.approx(8.393)
    assert cases["A328"][0].measured == pytest.approx(55.1e-3)


def test_a_serve_command_is_read_in_full(cases):
    columns = cases["G0459"][0].work[0].columns  # -tp 8 --enable-expert-parallel, -FP8, vLLM on A100
    assert [columns[name] for name in ("tp", "ep", "moe_tp", "precision")] == ["8", "8", "1", "fp8"]
    assert [columns[name] for name in ("max_num_seqs", "max_num_batched_tokens")] == ["256", "2048"]
    columns = cases["G0295"][0].work[0].columns  # sglang --tp-size 8 --dp-size 8 --enable-dp-attention
    assert [columns[name] for name in ("tp", "attention_dp", "moe_tp", "devices")] == ["1", "8", "8", "8"]
    columns = cases["G0274"][0].work[0].columns  # trtllm-serve --tp_size 8 --ep_size 8
    assert [columns[name] for name in ("backend", "tp", "ep", "concurrency")] == ["trtllm", "8", "8", "1000"]


def test_clients_are_stated_or_follow_from_rate_and_time(cases):
    assert cases["G0377"][0].work[0].columns["concurrency"] == "4"  # "batch size 4"
    assert cases["G0534"][0].work[0].columns["concurrency"] == "8"  # "BS=8"
    # 496.88 / 220.6 requests/s × (0.064 + 220.6 · 0.00738) s = 3.8
    assert cases["G0514"][0].work[0].columns["concurrency"] == "4"
    assert [case.quantity for case in cases["G0514"]] == ["total rate", "TPOT", "TTFT"]
    assert [case.quantity for case in cases["G0272"]] == ["total rate", "TPOT"]  # a burst's TTFT is its order


def test_products(cases):
    # 2 · 128 · 12288² flop in 0.2003 ms are 193 TFLOP/s, as the row says
    case = cases["G0777"][0]
    assert case.work[0].flops / case.measured == pytest.approx(193.0e12, rel=2e-3)
    # M×N×K in the row, m, k, n here
    assert cases["A449"][0].work[0][2:5] == (144, 5120, 3200)
    grouped = cases["A028"][0]
    moved = 4 * (2048 * 4096 + 4096 * 7168 + 2 * 2048 * 7168)
    assert moved / grouped.measured == pytest.approx(325e9, rel=1e-2)  # the bandwidth that the row states
    # QKV of GPT-3 under TP4 over 8 · 2048 tokens
    assert cases["G0836"][0].work[0][2:5] == (16384, 12288, 9216)
    assert cases["G0848"][0].work[0].m == 8
    # four products of a Llama-2-70B layer under TP4; the row's parts add up to its value
    assert [(p.k, p.n) for p in cases["G0894"][0].work] == [(8192, 2560), (2048, 8192), (8192, 14336), (7168, 8192)]
    assert cases["G0894"][0].measured == pytest.approx(0.284e-3)


def test_collectives_and_transfers(cases):
    gather, reduce = cases["A424"][0].work[0], cases["A435"][0].work[0]
    assert (gather.operation, gather.size, gather.devices) == ("all_gather", 16 * 1.3 * 2**20, 16)
    assert (reduce.operation, reduce.size) == ("all_reduce", 160 * 1024)
    assert cases["G0846"][0].work[0].size == 8 * 2048 * 12288 * 2
    assert cases["G0873"][0].measured == pytest.approx(0.275e-3)
    assert cases["A500"][0].measured == pytest.approx(2**30 / 72e9)
    assert cases["G1355"][0].measured == pytest.approx(2**30 / (515.05e9 / 2))  # stated for both directions
    assert cases["A066"][0].work[0].size == 9216 * 1024


def test_dispatch_and_combine(cases):
    dispatch, combine = cases["A067"]
    assert (dispatch.measured, combine.measured) == (pytest.approx(20e-6), pytest.approx(25e-6))
    assert [part.work[0].bytes_per_value for part in (dispatch, combine)] == [1, 2]
    assert dispatch.work[0][1:6] == ("dispatch", 4, 7168, 8, 128)


def test_fitted_lines_are_read_off_at_a_point(cases):
    # 18.1025 + 0.101912 · 512 + 7.12226e-6 · 512² ms
    assert cases["G0722"][0].measured == pytest.approx(72.1485e-3, rel=1e-5)
    # 19.9347 + 0.000626936 · 16 · 512 + 0.038507 · 16 ms
    assert cases["G0723"][0].measured == pytest.approx(25.6867e-3, rel=1e-5)
    assert cases["G0769"][0].measured == 11600


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A504", "training"),
        ("A576", "training"),
        ("G0004", "MLPerf"),
        ("A082", "disaggregated"),
        ("A103", "W4A8"),
        ("A123", "contradicts"),
        ("A109", "W4A8"),
        ("A398", "difference"),
        ("A376", "prefix-cache"),
        ("G0418", "another model"),
        ("G0491", "another model"),
        ("G0521", "acceptance"),
        ("G0427", "Qwen3-14B"),
        ("G0922", "a40"),
        ("G0625", "A800-40G"),
        ("A002", "projection"),
        ("G0539", "prefix-cache"),
    ],
)
def test_reasons_are_specific(cases, name, words):
    assert words in cases[name].text


class FakePricer:
    """Answers everything with round numbers and refuses one row."""

    def __init__(self, work):
        self.work = work

    def serve(self, rows):
        for row in rows:
            refused = row["id"] == "G0272"
            yield {
                "id": row["id"],
                "ttft_ms": "" if refused else 100,
                "tpot_ms": "" if refused else 20,
                "status": "refused" if refused else "ok",
                "reason": "does not fit" if refused else "",
            }

    def seconds(self, work):
        if isinstance(work, self.work.Transfer):
            raise ValueError("no link")
        return 1e-3

    def tokens(self, work):
        return 10_000.0


def test_the_report_counts_every_row_once_and_errors_have_the_right_sign(modules):
    report, rows = modules["public_measurements"], modules["measurement_rows"]
    measurements = rows.load()
    found = report.outcomes(measurements, FakePricer(modules["measurement_work"]))
    assert len({o.row["id"] for o in found}) == 393 + 854
    by_id = {(o.row["id"], o.case.quantity): o for o in found if o.predicted is not None}
    # 1 client, 2700 tokens: 2700 / (0.1 + 2700 · 0.02) tokens/s against 18.1
    assert by_id["A329", "output rate"].predicted == pytest.approx(2700 / 54.1)
    assert by_id["A329", "output rate"].error > 0
    assert by_id["A328", "TPOT"].error == pytest.approx(100 * (20 / 55.1 - 1))
    assert by_id["G0769", "KV tokens"].error == pytest.approx(100 * (10_000 / 11_600 - 1))
    assert by_id["G0894", "operator time"].predicted == pytest.approx(4e-3)  # four products
    assert {o.reason for o in found if o.row["id"] == "G0272"} == {"does not fit"}
    assert {o.reason for o in found if o.row["id"] == "A064"} == {"no link"}
    text = report.page(found, measurements, "textbook")
    assert "Expressed, but refused" in text
    assert "| does not fit | 1 | G0272 |" in text
    sources = {(m.family, name): about for m in measurements for name, about in m.sources.items()}
    own = [o.error for o in found if o.predicted is not None and (o.family, o.row["src"]) == ("GPU", "split")]
    lines = [line for line in report.error_rows(found, sources) if line[0] == "GPU `split`"]
    assert sum(int(line[5]) for line in lines) == len(own)
    assert float(lines[0][6]) <= max(map(abs, own))
    assert statistics.fmean(own) < 0


def test_without_the_functions_of_the_core_each_row_says_what_is_missing(modules, monkeypatch):
    report, work = modules["public_measurements"], modules["measurement_work"]
    monkeypatch.setattr(report, "_OPERATORS", "planner.no_such_module")
    planner = report.Planner("textbook")
    with pytest.raises(ValueError, match=r"planner\.no_such_module\.gemm_seconds"):
        planner.seconds(work.Gemm("h100-sxm", "bf16", 1, 1, 1))


def test_ids_are_written_as_ranges(modules):
    assert modules["public_measurements"].ranges(["G0003", "G0001", "G0002", "G0010"]) == "G0001–G0003, G0010"
