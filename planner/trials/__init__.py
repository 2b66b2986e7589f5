"""Runs trials through commands: an engine is launched, waited for, loaded by a benchmark client, and cleaned up."""

from planner.trials.adapter import Adapter, adapter_names, load_adapter, missing_values
from planner.trials.runner import Outcome, run_trial

__all__ = ["Adapter", "Outcome", "adapter_names", "load_adapter", "missing_values", "run_trial"]
