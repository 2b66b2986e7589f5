"""What stays fixed while the configurations of one inventory item are evaluated."""

from typing import NamedTuple

from planner.catalog.case import Case, EngineUse, node_sizes
from planner.posterior import Place, Posterior, Replica
from planner.posterior.fields import datasheet
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.fleet import InventoryItem
from planner.schema.hardware import Hardware
from planner.schema.scenario import Demand, Scheduler, ServedModel, Workload
from planner.schema.search import Search
from planner.table import Configuration, Pool


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
    """One model and load on one kind of device under one engine, in one role.

    ``believed``: what measured runs say beyond efficiencies, if anything.
    """

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
    scheduler: Scheduler = Scheduler.model_construct()
    role: str = "mixed"
    workload_name: str = ""
    model: ServedModel | None = None
    search: Search = Search.model_construct()
    believed: Replica | None = None

    @property
    def pool(self) -> Pool:
        """What columns of this setting belong to."""
        left_off = optional_of(self.engine)
        return Pool(self.workload_name, self.inventory, self.engine.name, self.engine_version, self.role, left_off)

    @property
    def nodes(self) -> tuple[int, ...]:
        """Usable devices of each node, largest first."""
        return node_sizes(self.item, self.hardware.devices_per_node.value, self.hardware.domain)


def optional_of(engine: Engine) -> tuple[str, ...]:
    """Return the fusions and overlaps that an engine has and leaves off, in the order of the bits that turn them on."""
    return tuple(sorted(name for name, fusion in engine.fusions.items() if not fusion.value))


def settings(case: Case) -> list[Setting]:
    """Return one setting per workload, inventory item, engine that runs on it, and role."""
    posterior = Posterior.of(case.calibration)
    return [
        _setting(case, posterior, workload, inventory, use, role)
        for workload in case.scenario.workloads
        for inventory in case.scenario.inventory
        for use in case.engines
        if case.hardware[inventory].vendor in use.engine.vendors
        for role in roles(case.scenario.search, use)
    ]


def setting_of(case: Case, configuration: Configuration) -> Setting:
    """Return what stays fixed of a configuration."""
    return next(setting for setting in settings(case) if setting.pool.holds(configuration))


def ideal(setting: Setting) -> Setting:
    """Return a setting whose software reaches every rate of the data sheet, with experts that are visited evenly."""
    return setting._replace(efficiencies=datasheet(setting.efficiencies), expert_load=ExpertLoad(0.0, 1.0))


def roles(search: Search, use: EngineUse) -> tuple[str, ...]:
    """Return the roles that are searched with an engine: all it can take, unless the scenario restricts them."""
    apart = use.engine.disaggregation is not None and use.scheduler.policy == "iteration"
    able = ("mixed", "prefill", "decode") if apart else ("mixed",)
    return tuple(role for role in able if search.roles is None or role in search.roles)


def _setting(case: Case, posterior: Posterior, workload: str, inventory: str, use: EngineUse, role: str) -> Setting:
    load = case.scenario.workloads[workload]
    model, hardware = case.model(workload), case.hardware[inventory]
    efficiencies = posterior.efficiencies(hardware.name, use.engine.name)
    return Setting(
        inventory=inventory,
        item=case.scenario.inventory[inventory],
        hardware=hardware,
        architecture=case.architecture(workload),
        engine=use.engine,
        engine_version=use.version,
        efficiencies=efficiencies,
        workload=load,
        max_model_len=case.max_model_len(workload),
        expert_load=expert_load(load, efficiencies),
        speculative=speculative(model),
        attention_kernel=model.attention_kernel,
        scheduler=use.scheduler,
        role=role,
        workload_name=workload,
        model=model,
        search=case.scenario.search,
        believed=posterior.replica(_place(case, workload, hardware, use), role, case.scenario.confidence),
    )


def _place(case: Case, workload: str, hardware: Hardware, use: EngineUse) -> Place:
    """Return the place of a replica of one device and one request, whose precision is yet to be chosen."""
    load = case.scenario.workloads[workload]
    name = case.architecture(workload).name
    return Place(hardware.name, use.engine.name, name, "", 1, 1, 1, 1, 1.0, load.input_tokens, load.output_tokens)


def expert_load(workload: Workload, efficiencies: Efficiencies) -> ExpertLoad:
    """Return the workload's profile, or the one its calibration assumes."""
    if workload.expert_load is not None:
        return ExpertLoad(workload.expert_load.hot_share, workload.expert_load.hot_load)
    assumed = efficiencies.scheduling
    return ExpertLoad(assumed.hot_expert_share.value, assumed.hot_expert_load.value)


def speculative(model: ServedModel) -> Speculative:
    """Return what the served model says about drafts: none where it says nothing."""
    asked = model.speculative
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
    role: str = "mixed",
    even_experts: bool = False,
) -> Setting:
    """Return the setting of a replica outside of any scenario: no inventory, no limits, the calibration's expert load.

    ``longest``: longest request [token], isl + osl where it is 0. ``acceptance`` is that of drafts of one more layer,
    the model's own or trained for it. ``even_experts``: every expert is given as many tokens.
    """
    assumed = efficiencies.scheduling
    hot = 0.0 if even_experts else assumed.hot_expert_share.value
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
        expert_load=ExpertLoad(hot, assumed.hot_expert_load.value),
        speculative=Speculative(acceptance, layers=1.0 if acceptance else 0.0),
        role=role,
    )
