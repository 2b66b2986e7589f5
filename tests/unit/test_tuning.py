"""The loop of trials: what is believed together, what a trial is worth, when to stop, and how trials fail."""

import json
from pathlib import Path

import numpy as np
import pytest

from planner.api import load_scenario
from planner.calibrate.measurements import read_measurements
from planner.catalog import load_calibration, load_efficiencies
from planner.columns.closed_loop import closed_loop
from planner.columns.setting import settings
from planner.errors import InputError
from planner.importers import Measured
from planner.milp.stock import Stock
from planner.posterior import Posterior
from planner.posterior.fields import FIELDS, datasheet, from_scale, to_scale, values_of, with_fields
from planner.posterior.joint import Joint, observed, of_spreads
from planner.posterior.process import Inputs, Kernel, Spread, condition, mean
from planner.prediction import asked_of
from planner.studies.tuning import candidates as candidates_module
from planner.studies.tuning.acquisition import prospects
from planner.studies.tuning.judgement import impossible, unfit
from planner.studies.tuning.log import Log, MeasuredTrial, Options, read_log, write_log
from planner.studies.tuning.loop import asked, finished, standing, tuner_of
from planner.studies.tuning.outcomes import Outcomes
from planner.studies.tuning.run import tune, with_failure, with_measured
from planner.trials import Outcome
from planner.verify.placement import fits

ROOT = Path(__file__).resolve().parents[2]


def log_of(tuner, *trials):
    return Log(schema_version=1, scenario="s", digest="d", options=tuner.options, unit="request/s", trials=trials)


@pytest.fixture(scope="module")
def case():
    return load_scenario("fake_engine")


@pytest.fixture(scope="module")
def tuner(case):
    return tuner_of(case, Options(launch_time="1 min", epsilon=1e-6))


def hidden(seed):
    """Efficiencies that nobody was told of: every field moved by a normal step on its scale."""
    base = load_efficiencies("textbook").value
    places = to_scale(values_of(base)) + np.random.default_rng(seed).normal(0, 0.2, len(FIELDS))
    return with_fields(base, dict(zip(FIELDS, from_scale(places).tolist(), strict=True)))


def truth_of(case, tuner, efficiencies):
    """TTFT and TPOT [s] of every candidate on hidden efficiencies, shape (2, C)."""
    (setting,) = settings(case._replace(calibration=efficiencies))
    every = tuner.candidates.every
    clients = np.array([float(c.clients) for c in every])
    slots = np.array([float(c.configuration.max_num_seqs) for c in every])
    found = closed_loop(setting, candidates_module._axes(setting, every), clients, slots, np.ones(len(every)))
    return np.array([found.ttft, found.tpot])


def answers(tuner, times):
    """Run trials on times that are known."""

    def run(trial):
        i = tuner.candidates.place_of(trial.candidate)
        load = tuner.candidates.workload
        ttft, tpot = times[:, i] * 1e3
        measured = Measured("known", "", trial.clients, load.input_tokens, load.output_tokens, ttft, tpot, 10**6, 1.0)
        return Outcome("", "", measured, 60.0)

    return run


def test_a_trial_changes_beliefs_as_conditioning_on_one_more_row_does():
    rng = np.random.default_rng(0)
    kernel = Kernel(np.array([0.3, 0.2]), np.array([0.2, 0.1]), 0.1, np.array([1.5]))

    def rows(count):
        return Inputs(rng.integers(0, 3, (2, count)), rng.normal(size=(1, count)))

    known, others, residuals = rows(8), rows(5), rng.normal(size=8)
    process = condition(kernel, known, residuals, np.ones(8))
    joint = observed(of_spreads([Spread(process)] * 2, others), 2, np.array([0.4, -0.2]), np.zeros(2))
    both = Inputs(np.hstack([known.keys, others.keys[:, 2:3]]), np.hstack([known.load, others.load[:, 2:3]]))
    for part, residual in enumerate((0.4, -0.2)):
        again = condition(kernel, both, np.append(residuals, residual), np.ones(9))
        left = [0, 1, 3, 4]
        assert joint.mean[part][left] == pytest.approx(mean(again, others.take(np.array(left))))
        assert joint.mean[part][2] == pytest.approx(residual)
        assert joint.deviation[part][2] == pytest.approx(0, abs=1e-7)


def test_deployments_that_nobody_measured_resemble_each_other_where_they_share_what_is_new(tuner):
    """One unknown model: its candidates rise and fall together, more so those of one deployment."""
    place = tuner.candidates.places[0]
    strange = [place._replace(model="unheard-of", tp=tp, concurrency=c) for tp, c in ((1, 8.0), (1, 16.0), (2, 8.0))]
    joint = Posterior.of(load_calibration("silicon").value).joint(strange)
    near, far = joint.covariance[1, 0, 1], joint.covariance[1, 0, 2]
    assert near > far > 0


def test_worth_is_the_rate_of_littles_law_and_nothing_beyond_a_limit():
    outcomes = Outcomes(
        np.array([10.0, 10.0]), np.array([4.0, 4.0]), np.full(2, 11.0), (np.inf, 0.05), None, "request/s"
    )
    worth = outcomes.worth(np.array([0.5, 0.5]), np.array([0.05, 0.051]))
    assert worth.tolist() == [4 * 10 / (0.5 + 10 * 0.05), 0.0]


def test_gain_of_a_sure_thing_is_what_it_is_worth_more():
    outcomes = Outcomes(np.full(3, 10.0), np.ones(3), np.full(3, 2.0), (np.inf, np.inf), None, "request/s")
    joint, modelled = Joint(np.zeros((2, 3)), np.zeros((2, 3, 3))), np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])
    found = prospects(joint, modelled, outcomes, np.array([0, 1, 2]), {1: 2.0}, 0)
    assert found.gain == pytest.approx([3.0, 0.0, 0.0], rel=1e-3)
    assert found.recommended == 0
    assert found.relative_regret == pytest.approx(0, abs=1e-3)
    assert prospects(joint, modelled, outcomes, np.array([1, 2]), {}, 0).recommended == 1


def test_expected_regret_is_that_of_two_equal_candidates():
    """The better of two with independent log-normal times of small deviation d is d/√π better than either."""
    outcomes = Outcomes(np.full(2, 1.0), np.ones(2), np.ones(2), (np.inf, np.inf), None, "1/s")
    covariance = np.array([np.eye(2) * 0.02**2] * 2)
    found = prospects(Joint(np.zeros((2, 2)), covariance), np.ones((2, 2)), outcomes, np.arange(2), {}, 1)
    assert found.relative_regret == pytest.approx(0.02 / np.sqrt(np.pi), rel=0.1)


@pytest.mark.parametrize("stock", [Stock((8, 8, 4), 8), Stock((8,) * 6, 8, 16), Stock((4,) * 9, 4, 12), Stock((3,), 8)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 16, 24, 32])
def test_replicas_that_fit_are_as_many_as_can_be_placed(stock, size):
    count = stock.replicas(size)
    assert fits({size: count}, stock)
    assert not fits({size: count + 1}, stock)


def test_the_best_is_found_within_five_trials_of_a_cold_start(case, tuner):
    """Hidden sets of efficiencies; nothing but the textbook is known before the first trial."""
    found = []
    limited = tuner._replace(options=Options(launch_time="1 min", trials=5, epsilon=1e-6))
    for seed in range(12):
        times = truth_of(case, tuner, hidden(seed))
        worth = tuner.candidates.outcomes.worth(*times)
        if not worth.max():
            continue
        log = tune(limited, log_of(limited), answers(tuner, times), lambda log: None, lambda trial: None)
        assert len(log.trials) <= 5
        found.append(worth[standing(limited, log.trials).prospects.recommended] / worth.max())
    assert len(found) >= 9
    assert sum(share >= 0.98 for share in found) >= 0.9 * len(found), found
    assert min(found) >= 0.9, found


def test_the_same_trials_lead_to_the_same_place_and_an_interrupted_run_goes_on(case, tuner, tmp_path):
    limited = tuner._replace(options=Options(launch_time="1 min", trials=4))
    times = truth_of(case, tuner, hidden(3))
    path = tmp_path / "log.yaml"
    whole = tune(limited, log_of(limited), answers(tuner, times), lambda log: write_log(path, log), lambda trial: None)
    assert read_log(path, "d") == read_log(path, "d")
    calls = 0

    def interrupted(trial):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return answers(tuner, times)(trial)

    with pytest.raises(KeyboardInterrupt):
        tune(limited, log_of(limited), interrupted, lambda log: write_log(path, log), lambda trial: None)
    left = read_log(path, "d")
    assert left.asked.number == 3
    resumed = tune(limited, left, answers(tuner, times), lambda log: None, lambda trial: None)
    assert [t.candidate for t in resumed.trials] == [t.candidate for t in whole.trials]
    assert resumed.trials[-1].changed == whole.trials[-1].changed


def test_a_log_of_another_question_is_refused(tuner, tmp_path):
    path = tmp_path / "log.yaml"
    write_log(path, log_of(tuner))
    with pytest.raises(InputError, match="another question"):
        read_log(path, "other")
    trial = asked(tuner, standing(tuner, ()), 1)
    bent = trial.model_copy(update={"configuration": {**trial.configuration, "wheels": 4}})
    write_log(path, log_of(tuner, bent))
    with pytest.raises(InputError, match=r"trial 1.*wheels"):
        read_log(path, "d")


def test_an_engine_that_does_not_start_rules_out_what_asks_for_more_of_the_same(tuner):
    first = asked(tuner, standing(tuner, ()), 1)
    log = with_failure(tuner, log_of(tuner, first), first, "no_start", "out of memory")
    after = standing(tuner, log.trials)
    mine = first.candidate.configuration
    for i, c in enumerate(tuner.candidates.every):
        same = (c.configuration.tp, c.configuration.pp) == (mine.tp, mine.pp)
        larger = c.configuration.max_num_seqs >= mine.max_num_seqs
        larger &= c.configuration.max_num_batched_tokens >= mine.max_num_batched_tokens
        if same and larger:
            assert after.prospects.worth[i] == 0
    assert (after.prospects.worth > 0).any()
    assert log.trials[0].changed is not None
    assert after.next is not None


def test_a_benchmark_that_hangs_rules_out_higher_loads_of_the_same_replica_only(tuner):
    first = asked(tuner, standing(tuner, ()), 1)
    log = with_failure(tuner, log_of(tuner, first), first, "no_answer", "hung")
    worth = standing(tuner, log.trials).prospects.worth
    mine = first.candidate
    lower = [
        i
        for i, c in enumerate(tuner.candidates.every)
        if c.configuration.tp == mine.configuration.tp and c.clients < mine.clients
    ]
    assert worth[tuner.candidates.place_of(mine)] == 0
    assert (worth[lower] > 0).any()


def measured(tuner, trial, **changes):
    load, times = tuner.candidates.workload, tuner.candidates.modelled[:, tuner.candidates.place_of(trial.candidate)]
    run = Measured("r.json", "", trial.clients, load.input_tokens, load.output_tokens, *(times * 1e3), 10**4, 1.0)
    return run._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"tpot_ms": 0.05}, "implausible", "less than the"),
        ({"ttft_ms": 0.5}, "implausible", "TTFT"),
        ({"ttft_ms": float("nan")}, "implausible", "no time"),
        ({"concurrency": 3}, "unreadable", "3 clients instead of"),
        ({"osl": 40.0}, "unreadable", "40 output tokens"),
        ({"failed": 7}, "unreadable", "7 of"),
        ({"completed": 2}, "unreadable", "cannot keep"),
        ({"open_loop": "requests came at 5 per second"}, "unreadable", "no closed loop"),
    ],
)
def test_what_cannot_be_is_not_learned_from_and_is_explained(tuner, changes, status, words):
    trial = asked(tuner, standing(tuner, ()), 1)
    log = with_measured(tuner, log_of(tuner, trial), trial, measured(tuner, trial, **changes), None)
    (ended,) = log.trials
    assert (ended.status, ended.measured) == (status, None)
    assert words in ended.reason
    assert np.array_equal(standing(tuner, log.trials).joint.mean, tuner.prior.mean)


def test_a_rate_that_no_replica_has_is_implausible_though_both_times_are_possible(tuner):
    """Times of a lone request, claimed for many clients."""
    every = tuner.candidates.every
    busy = max(range(len(every)), key=lambda i: every[i].clients)
    assert "request/s are more than" in impossible(tuner.candidates, busy, *tuner.candidates.least[:, busy])
    assert unfit(tuner.candidates, busy, measured(tuner, asked(tuner, standing(tuner, ()), 1))) != ""


def test_no_measured_row_of_silicon_is_called_impossible():
    """The bound is one: perfect software on the data sheet is faster than all core rows, with the loop's tolerance."""
    efficiencies = datasheet(load_efficiencies("operators").value)
    rows = read_measurements(ROOT / "benchmarks" / "data" / "silicon_dev.csv")
    core = np.nonzero(~rows.anomalous & ~rows.maybe_speculative)[0][::7]
    some = rows.take(core)
    asked_rows, refused = asked_of([row._replace(concurrency=1) for row in some.rows], Posterior(efficiencies))
    assert not refused
    below = 0
    for one in asked_rows:
        least = closed_loop(one.setting, one.axes, one.clients, one.max_num_seqs, one.lockstep)
        places = list(one.places)
        below += int((some.tpot[places] < 0.95 * least.tpot).sum() + (some.ttft[places] < 0.95 * least.ttft).sum())
    assert below == 0


def test_the_loop_stops_when_nothing_more_is_to_be_gained_and_says_why(tuner):
    sure = tuner._replace(prior=Joint(tuner.prior.mean, tuner.prior.covariance * 1e-9), options=Options())
    trial = asked(sure, standing(sure, ()), 1)
    log = with_measured(sure, log_of(sure, trial), trial, measured(sure, trial), 1.0)
    after = standing(sure, log.trials)
    assert after.next is None
    assert "expected regret" in after.stop


def test_a_cheap_trial_comes_first_where_both_promise_the_same(tuner):
    """Hours divide the gain: with no launch, the trial of few requests is ahead of a long one."""
    quick = standing(tuner._replace(options=Options(launch_time="0 s", least_requests=1)), ())
    slow = standing(tuner._replace(options=Options(launch_time="10 h")), ())
    assert quick.hours[quick.next] <= slow.hours[slow.next]
    assert np.ptp(slow.hours) / slow.hours.max() < 0.01
    assert np.argmax(slow.per_hour) == np.argmax(slow.prospects.gain)


def test_trials_refuse_what_they_cannot_judge():
    demand = "workloads.chat.requests=10 /s"
    for settings_of, words in (
        (["objective={weighted: {devices: 0.5, tpot: 0.5}}"], "one metric"),
        (["objective={minimize: cost}", "inventory.h100.price=0 USD/h"], "a cost above zero"),
        (["search.roles=[prefill, decode]"], "can run"),
    ):
        with pytest.raises(InputError, match=words):
            candidates_module.candidates_of(load_scenario("fake_engine", [demand, *settings_of]))


def test_a_latency_goal_counts_only_what_carries_the_demand():
    fast = candidates_module.candidates_of(
        load_scenario("fake_engine", ["objective={minimize: tpot}", "workloads.chat.requests=150 /s"])
    )
    worth = fast.outcomes.worth(*fast.modelled)
    carried = fast.outcomes.rate(*fast.modelled) * fast.outcomes.scale
    assert (worth[carried < 150] == 0).all()
    assert (worth[carried >= 150] > 0).any()


def test_every_trial_is_logged_with_what_was_expected_what_was_measured_and_what_it_changed(tuner):
    trial = asked(tuner, standing(tuner, ()), 1)
    log = with_measured(tuner, log_of(tuner, trial), trial, measured(tuner, trial), 12.0)
    data = json.loads(json.dumps(log.model_dump(mode="json")))["trials"][0]
    assert data["expected"]["tpot_ms_p10"] < data["expected"]["tpot_ms"] < data["expected"]["tpot_ms_p90"]
    assert data["measured"]["worth"] > 0
    assert data["changed"]["regret"] < data["changed"]["regret_before"]
    assert finished(tuner, log, log.trials[0]).trials[0].changed == log.trials[0].changed
    assert isinstance(log.trials[0].measured, MeasuredTrial)
