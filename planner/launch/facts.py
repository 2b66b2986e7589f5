"""What launch files need beyond the plan: where weights lie, what a node is, how long requests are. Values only."""

from collections.abc import Mapping
from typing import NamedTuple

from planner.milp.stock import Stock
from planner.workbook.facts import CapacityFacts


class ModelFacts(NamedTuple):
    """A model as engines load it: its Hugging Face id or path, the format its checkpoint is stored in.

    ``own_drafts``: it has a draft module of its own (MTP); a separate draft model is not named by a scenario.
    ``experts``: of a layer of the mixture, of which each token takes ``experts_per_token`` and all of
    ``shared_experts``; 0 without one. ``hidden``: its width. ``latent``: it caches latents (MLA). ``remote_code``: its
    repository has code that engines must be let run.
    """

    repository: str
    precision: str
    own_drafts: bool
    experts: int
    experts_per_token: int
    shared_experts: int
    hidden: int
    latent: bool
    remote_code: bool


class InventoryFacts(NamedTuple):
    """Devices of one inventory: their vendor and their nodes."""

    vendor: str
    stock: Stock


class WorkloadFacts(NamedTuple):
    """Requests of a workload: mean prompt and generated tokens."""

    input_tokens: int
    output_tokens: int


class Latency(NamedTuple):
    """A mean latency [ms], and the ends of four fifths of what is expected of it; None where these are not known."""

    mean: float
    p10: float | None
    p90: float | None


class Expected(NamedTuple):
    """What requests of a load are predicted to see on average, and how many complete [request/s]."""

    ttft: Latency
    tpot: Latency
    requests_per_s: float


class EngineFacts(NamedTuple):
    """How an engine shares out memory, and its default block [token].

    ``base_bytes`` is what it takes before a static share is worked out [byte].
    """

    memory_fraction_of: str
    base_bytes: float
    block_size: int


class Facts(NamedTuple):
    """Facts by the scenario's names of models, inventories and workloads, and by engine name.

    ``capacity`` is for the capacity workbook. ``loops``: by mixed deployment, what one replica's planned clients see
    that ask again as soon as they are answered.
    """

    models: Mapping[str, ModelFacts]
    inventory: Mapping[str, InventoryFacts]
    workloads: Mapping[str, WorkloadFacts]
    engines: Mapping[str, EngineFacts]
    capacity: CapacityFacts = CapacityFacts()
    loops: Mapping[str, Expected] = {}
