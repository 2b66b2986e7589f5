"""What a log of trials says: what is believed now, what to recommend, which trial comes next, and when to stop."""

from typing import NamedTuple

import numpy as np

from planner.catalog import Case, load_priors
from planner.constants import MILLISECONDS_PER_SECOND, SECONDS_PER_HOUR
from planner.posterior import Posterior
from planner.posterior.joint import Joint, observed, of_kernels
from planner.posterior.measured import LATENCIES, inputs_of, kernel_of, known_keys
from planner.studies.tuning.acquisition import Prospects, prospects
from planner.studies.tuning.candidates import Candidate, Candidates, candidates_of
from planner.studies.tuning.log import FAILED, Changed, Expected, Log, MeasuredTrial, Options, Trial, written
from planner.studies.tuning.outcomes import TPOT, TTFT
from planner.table import Floats, Ints

_PRIORS = "silicon"  # how deployments vary where no calibration says it, and how runs do
_TENTH = 1.2815515655446004  # standard deviations that leave a tenth of a normal distribution beyond
_SAME_START = ("tp", "pp", "attention_dp", "ep", "inventory", "engine", "weight_precision", "kv_precision")


class Tuner(NamedTuple):
    """What stays the same over trials; ``prior`` is believed before any, ``repeat`` the deviation of a second run."""

    candidates: Candidates
    prior: Joint
    repeat: Floats
    options: Options


class Standing(NamedTuple):
    """Where the trials have led.

    ``best``: the candidate of most measured worth, None before any. ``next``: the trial to run, None where ``stop``
    says why there is none. ``hours``, ``per_hour`` (C,): time of a trial, and its gain per hour.
    """

    joint: Joint
    prospects: Prospects
    best: int | None
    hours: Floats
    per_hour: Floats
    next: int | None
    stop: str


def tuner_of(case: Case, options: Options) -> Tuner:
    """Return the loop of a case: candidates, and what its calibration says of them together.

    Raises:
        InputError: see ``candidates_of``.
    """
    candidates = candidates_of(case)
    prior = Posterior.of(case.calibration).joint(candidates.places)
    priors = load_priors(_PRIORS).value
    if prior is None:  # nothing was fitted: how deployments vary is known all the same
        kernels = [kernel_of(getattr(priors.kernels, name)) for name in LATENCIES]
        prior = of_kernels(kernels, inputs_of(candidates.places, known_keys(candidates.places)))
    repeat = np.array([getattr(priors.repeat, name) for name in LATENCIES])
    return Tuner(candidates, prior, repeat, options)


def standing(tuner: Tuner, trials: tuple[Trial, ...]) -> Standing:
    """Return where trials have led; the same trials always lead to the same place."""
    candidates, options = tuner.candidates, tuner.options
    joint, measured = tuner.prior, dict[int, float]()
    for trial in trials:
        index = candidates.place_of(trial.candidate)
        if trial.measured is None or trial.status != "measured" or index is None:
            continue
        joint = observed(joint, index, residuals(candidates, index, trial.measured), tuner.repeat)
        measured[index] = trial.measured.worth
    possible = _possible(candidates, trials)
    found = prospects(joint, candidates.modelled, candidates.outcomes, possible, measured, options.seed)
    hours = _hours(tuner, joint)
    per_hour = found.gain / hours
    left = _left(candidates, trials, possible)
    best = max(measured, key=lambda i: measured[i]) if measured else None
    stop = _stop(options, trials, found, best, left)
    following = None if stop else int(max(left.tolist(), key=lambda i: (per_hour[i], found.worth[i])))
    return Standing(joint, found, best, hours, per_hour, following, stop)


def residuals(candidates: Candidates, index: int, measured: MeasuredTrial) -> Floats:
    """Return logarithms of measured over modelled TTFT and TPOT, shape (2,)."""
    times = np.array([measured.ttft_ms, measured.tpot_ms]) / MILLISECONDS_PER_SECOND
    found: Floats = np.log(times / candidates.modelled[:, index])
    return found


def asked(tuner: Tuner, now: Standing, number: int) -> Trial:
    """Return the next trial with what is expected of it.

    Raises:
        ValueError: there is none.
    """
    if now.next is None:
        raise ValueError(now.stop)
    candidate = tuner.candidates.every[now.next]
    return Trial(
        number=number,
        status="asked",
        configuration=written(candidate.configuration),
        clients=candidate.clients,
        expected=expected(tuner, now, now.next),
    )


def expected(tuner: Tuner, now: Standing, index: int) -> Expected:
    """Return what is expected of a trial."""
    times, spread = {}, now.joint.deviation
    for part, name in enumerate(LATENCIES):
        centre = float(np.log(tuner.candidates.modelled[part, index]) + now.joint.mean[part, index])
        for suffix, step in (("", 0.0), ("_p10", -_TENTH), ("_p90", _TENTH)):
            milliseconds = float(np.exp(centre + step * spread[part, index])) * MILLISECONDS_PER_SECOND
            times[f"{name}_ms{suffix}"] = _short(milliseconds)
    return Expected(
        **times,
        worth=_short(float(now.prospects.worth[index])),
        within_limits=_short(float(now.prospects.likely[index])),
        gain_per_hour=_short(float(now.per_hour[index])),
        hours=_short(float(now.hours[index])),
    )


def finished(tuner: Tuner, log: Log, trial: Trial) -> Log:
    """Return the log with a trial that has ended, and what it changed."""
    before = standing(tuner, tuple(t for t in log.trials if t.number != trial.number))
    ended = log.with_trial(trial)
    after = standing(tuner, ended.trials)
    names = [tuner.candidates.every[s.prospects.recommended].label for s in (before, after)]
    worths = [_short(float(s.prospects.worth[s.prospects.recommended])) for s in (before, after)]
    regrets = [_short(min(s.prospects.relative_regret, 1e9)) for s in (before, after)]
    changed = Changed(
        recommended_before=names[0], recommended=names[1], worth_before=worths[0], worth=worths[1],
        regret_before=regrets[0], regret=regrets[1],
    )  # fmt: skip
    return log.with_trial(trial.model_copy(update={"changed": changed}))


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _possible(candidates: Candidates, trials: tuple[Trial, ...]) -> Ints:
    """Return what may still be run or recommended: not what failed, nor what would fail for the same reason."""
    failed = [trial for trial in trials if trial.status in FAILED]
    kept = [i for i, c in enumerate(candidates.every) if not any(_fails_too(c, trial) for trial in failed)]
    return np.array(kept, dtype=np.int64)


def _fails_too(candidate: Candidate, trial: Trial) -> bool:
    """Tell whether a candidate is what failed, or asks for at least as much of the same replica."""
    other, status = trial.candidate, trial.status
    if candidate == other:
        return True
    mine, theirs = candidate.configuration, other.configuration
    if status not in ("no_start", "no_answer") or any(getattr(mine, n) != getattr(theirs, n) for n in _SAME_START):
        return False
    more = mine.max_num_batched_tokens >= theirs.max_num_batched_tokens and mine.max_num_seqs >= theirs.max_num_seqs
    return more if status == "no_start" else more and candidate.clients >= other.clients


def _left(candidates: Candidates, trials: tuple[Trial, ...], possible: Ints) -> Ints:
    tried = {candidates.place_of(trial.candidate) for trial in trials if trial.status != "asked"}
    return np.array([i for i in possible.tolist() if i not in tried], dtype=np.int64)


def _hours(tuner: Tuner, joint: Joint) -> Floats:
    """Return how long trials are expected to take [h], shape (C,)."""
    outcomes, options = tuner.candidates.outcomes, tuner.options
    times = tuner.candidates.modelled * np.exp(joint.mean)
    requests = np.array([float(options.requests(int(clients))) for clients in outcomes.clients])
    seconds = options.launch_time + requests / outcomes.rate(times[TTFT], times[TPOT])
    found: Floats = seconds / SECONDS_PER_HOUR
    return found


def _stop(options: Options, trials: tuple[Trial, ...], found: Prospects, best: int | None, left: Ints) -> str:
    ended = sum(trial.status != "asked" for trial in trials)
    if not len(left):
        return "every candidate was tried or ruled out"
    if ended >= options.trials:
        return f"the budget of {options.trials} trials is spent"
    if best is not None and found.relative_regret < options.epsilon:
        return f"the expected regret of {found.relative_regret:.1%} is below {options.epsilon:.1%}"
    return ""
