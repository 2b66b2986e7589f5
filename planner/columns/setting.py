"""What stays fixed while the configurations of one inventory item are evaluated."""

from typing import NamedTuple

from planner.catalog.case import Case, node_sizes
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import Demand, InventoryItem, Scheduler, Workload


class ExpertLoad(NamedTuple):
    """How uneven experts are visited: a share of them is hot, with ``hot_load`` times the mean load."""

    hot_share: float
    hot_load: float


class Speculative(NamedTuple):
    """Where draft tokens come from, and the chance of each to be accepted after those before it.

    ``layers``: 1 with the model's own draft module. ``seconds``: time of a draft token of another model [s].
    """

    acceptance: tuple[float, ...] = ()
    layers: float = 0.0
    seconds: float = 0.0


class Setting(NamedTuple):
    """One model and load on one kind of device."""

    inventory: str
    item: InventoryItem
    hardware: Hardware
    architecture: Architecture
    engine: Engine
    engine_version: str
    efficiencies: Efficiencies
    workload: Workload
    max_model_len: int
    expert_load: ExpertLoad
    speculative: Speculative = Speculative()
    attention_kernel: str = "flash2"
    scheduler: Scheduler = Scheduler()

    @property
    def nodes(self) -> tuple[int, ...]:
        """Usable devices of each node, largest first."""
        return node_sizes(self.item, self.hardware.devices_per_node.value)


def settings(case: Case) -> list[Setting]:
    """Return one setting per inventory item."""
    return [
        Setting(
            inventory=name,
            item=item,
            hardware=case.hardware[name],
            architecture=case.architecture,
            engine=case.engine,
            engine_version=case.engine_version,
            efficiencies=case.efficiencies,
            workload=case.workload,
            max_model_len=case.max_model_len,
            expert_load=expert_load(case.workload, case.efficiencies),
            speculative=speculative(case),
            attention_kernel=case.model.attention_kernel,
            scheduler=case.scenario.engine.scheduler,
        )
        for name, item in case.scenario.inventory.items()
    ]


def expert_load(workload: Workload, efficiencies: Efficiencies) -> ExpertLoad:
    """Return the workload's profile, or the one its calibration assumes."""
    if workload.expert_load is not None:
        return ExpertLoad(workload.expert_load.hot_share, workload.expert_load.hot_load)
    assumed = efficiencies.scheduling
    return ExpertLoad(assumed.hot_expert_share.value, assumed.hot_expert_load.value)


def speculative(case: Case) -> Speculative:
    """Return what the served model says about drafts: none where it says nothing."""
    asked = case.model.speculative
    if asked is None:
        return Speculative()
    return Speculative(asked.acceptance, 1.0 if asked.draft_time is None else 0.0, asked.draft_time or 0.0)


def lone_setting(
    architecture: Architecture,
    hardware: Hardware,
    engine: Engine,
    version: str,
    efficiencies: Efficiencies,
    *,
    isl: float = 1024,
    osl: float = 1024,
    longest: int = 0,
    acceptance: tuple[float, ...] = (),
) -> Setting:
    """Return the setting of a replica outside of any scenario: no inventory, no limits, the calibration's expert load.

    ``longest``: longest request [token], isl + osl where it is 0. ``acceptance`` is that of the model's own drafts.
    """
    assumed = efficiencies.scheduling
    return Setting(
        inventory="",
        item=InventoryItem.model_construct(hardware=hardware.name),
        hardware=hardware,
        architecture=architecture,
        engine=engine,
        engine_version=version,
        efficiencies=efficiencies,
        workload=Workload.model_construct(
            model=architecture.name, requests=Demand.model_construct(kind="max"), input_tokens=isl, output_tokens=osl
        ),
        max_model_len=longest or int(isl + osl),
        expert_load=ExpertLoad(assumed.hot_expert_share.value, assumed.hot_expert_load.value),
        speculative=Speculative(acceptance, layers=1.0 if acceptance else 0.0),
    )
