"""What the launch files of one engine need to know of it, and what several engines share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from planner.errors import InputError, InternalError
from planner.launch.definition import Options
from planner.launch.facts import EngineFacts, Facts, ModelFacts
from planner.launch.servers import Server, Target
from planner.plan import Deployment, Plan

_DIGITS = 1e4
_PYTHON = "python:3.12-slim"


class Route(NamedTuple):
    """What stands before the parts of a pair: its image, the command, and files it reads below /front by name."""

    image: str
    command: tuple[str, ...]
    files: Mapping[str, str] = {}


class Beside(NamedTuple):
    """What replicas need beside options: files by path, lines of hosts.env, and what the README asks for first."""

    files: Mapping[str, str] = {}
    hosts: Sequence[str] = ()
    needs: Sequence[str] = ()


class Engine(NamedTuple):
    """One engine: how a deployment becomes its options, and how these are read back.

    ``settings`` are the options that all replicas of a deployment share, ``part`` those of a replica's part on one
    node, given the deployments of its pair, and ``environment`` its variables. ``read`` returns fields of a deployment
    by their names. ``images`` by the beginning of a device's name, or by vendor. ``route`` stands before the parts of a
    pair, ``bench`` is the command of a benchmark that writes ``result``. Where the configuration file is not an option
    like any other, ``command`` makes the words of a part from those of its options, and ``said`` reads them back.
    ``beside`` is what replicas need besides. ``online``: formats that it makes of bf16 weights itself (``checkpoint``);
    ``served`` is what it calls a model, given the model's Hugging Face id. ``block_option`` is left out where the
    kernel chooses, among ``kernel_blocks``. ``launcher``: words before the program that start it on several nodes
    through MPI, which takes a job of the cluster (``slurm``); without any, containers on the nodes find each other.
    """

    name: str
    title: str
    program: tuple[str, ...]
    config: str
    images: Mapping[str, str]
    health: str
    settings: Callable[[Deployment, Facts], Options]
    part: Callable[[Server, int, Sequence[Deployment]], Options]
    environment: Callable[[Server, int, Facts], Mapping[str, str]]
    read: Callable[[Options, str, Facts], Mapping[str, Any]]
    route: Callable[[Target], Route]
    bench: Callable[["Load"], Sequence[str]]
    bench_image: str = ""
    result: str = "{name}.json"
    command: Callable[[Server, Sequence[str], Facts], Sequence[str]] | None = None
    said: Callable[[Sequence[str]], Options] | None = None
    beside: Callable[[Sequence[Server], Facts], Beside] = lambda _placed, _facts: Beside()
    health_offset: int = 0
    online: Mapping[str, str] = {}
    served: Callable[[str], str] = str
    shared_memory: Mapping[str, str] = {"ipc": "host"}
    block_option: str = ""
    kernel_blocks: str = ""
    launcher: tuple[str, ...] = ()


class Load(NamedTuple):
    """A benchmark run: where to, with which model and lengths, and how hard.

    ``rate`` is the arrival rate [request/s] of an open loop, 0 for a closed loop of ``clients``. ``tokenizer`` is an id
    or a folder, which may have code of its own that ``trusted`` lets run.
    """

    url: str
    model: str
    tokenizer: str
    trusted: bool
    input_tokens: int
    output_tokens: int
    rate: float
    clients: int
    result: str

    @property
    def requests(self) -> int:
        """Requests of a run: some minutes of load, and several for each client."""
        return max(16 * self.clients, math.ceil(180 * self.rate), 32)


def configured(plan: Plan, format: str) -> list[Deployment]:
    """Return the plan's deployments that an engine can be configured for.

    Raises:
        InputError: there is none: it has no deployments, or rates of a table alone.
    """
    found = [d for d in plan.deployments if isinstance(d, Deployment)]
    if not found:
        why = (
            "its deployments are of a table of rates, which says no limits"
            if plan.deployments
            else f"it is no plan: {plan.termination.detail}"
        )
        raise InputError.single("", f"nothing to write for {format}: {why}")
    return found


def installed(package: str, version: str, command: Sequence[str], options: Sequence[str]) -> Route:
    """Return a router that is installed from its package when its container starts."""
    words = " ".join([*command, *options])
    return Route(_PYTHON, ("sh", "-c", f"pip install {package}=={version} && exec {words}"))


def memory_fraction(d: Deployment, engine: EngineFacts) -> float:
    """Return the memory fraction that gives the KV cache what the plan has for it, rounded down.

    Of all memory what the plan uses; of a static share weights and cache; of what is free the cache.
    """
    m = d.memory_bytes
    if engine.memory_fraction_of == "static":
        share = (m.weights + m.kv_cache) / (m.capacity - engine.base_bytes - m.communication)
    elif engine.memory_fraction_of == "free":
        share = m.kv_cache / (m.kv_cache + m.reserve)
    else:
        share = (m.capacity - m.reserve) / m.capacity
    return math.floor(share * _DIGITS + 1e-6) / _DIGITS


def checkpoint(d: Deployment, facts: Facts, online: Mapping[str, str]) -> tuple[str, str | None]:
    """Return where weights are loaded from, and the method that quantises them on the way (none: as they are).

    ``online``: methods by format for what the engine makes of a bf16 checkpoint itself; other formats need a
    checkpoint of their own, expected under /models.
    """
    model = facts.models[d.model]
    if d.weight_precision == model.precision:
        return model.repository, None
    if model.precision == "bf16" and d.weight_precision in online:
        return model.repository, online[d.weight_precision]
    return prepared(model.repository, d.weight_precision), None


def prepared(repository: str, precision: str) -> str:
    """Return where a checkpoint in another format than the published one is expected."""
    return f"/models/{repository.rpartition('/')[2]}-{precision}"


def weight_precision(path: str, method: str | None, facts: Facts, model: str, online: Mapping[str, str]) -> str:
    """Return the format that ``checkpoint`` was asked for."""
    published = facts.models[model]
    if method is not None:
        return next(precision for precision, name in online.items() if name == method)
    return published.precision if path == published.repository else path.rpartition("-")[2]


def draft_model(model: str) -> str:
    """Return where a draft model is expected: a scenario has its speed and acceptance, not its name."""
    return f"/models/{model}-draft"


def latent(d: Deployment) -> bool:
    """Tell whether the model caches latents (MLA): attention kernels choose the block then."""
    return any(kind in ("mla", "sparse_mla") for kind in d.attention.layers)


def tokenizer(load: Load, name: str = "tokenizer") -> dict[str, str]:
    """Return the option of a benchmark that names the tokenizer; none where it is that of the model it asks for."""
    return {} if load.tokenizer == load.model else {name: load.tokenizer}


def block(d: Deployment, engine: EngineFacts, name: str) -> dict[str, int]:
    """Return the option of the block size; none where the kernel for latents chooses, unless the plan asks for one."""
    return {} if latent(d) and d.block_size == engine.block_size else {name: d.block_size}


def read_block(options: Options, name: str, known: ModelFacts, engine: EngineFacts) -> int:
    """Return the block size that the plan counted with.

    Raises:
        InternalError: it is missing, and the model is none whose kernel chooses.
    """
    if name not in options and not known.latent:
        msg = f"--{name} is missing, and no kernel chooses it"
        raise InternalError(msg)
    return int(options.get(name, engine.block_size))


def network_variables(*more: str) -> dict[str, str]:
    """Return the variables that keep what replicas of several nodes say to each other on one interface.

    Without them Gloo takes the address that a node's own name stands for, often the loopback.
    """
    return dict.fromkeys(("GLOO_SOCKET_IFNAME", *more), "${NETWORK_INTERFACE}")
