"""A replica of several nodes as a Slurm job, for engines whose processes meet through MPI: written, and read back."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner.launch.servers import Server, address_of, slug

_SECTIONS = re.compile(r"^#SBATCH --([\w-]+)=(\S+)$", re.MULTILINE)
_MOUNTED = "$PWD/{}:/launch,$MODELS:/models,$HF_CACHE:/root/.cache/huggingface"


class Job(NamedTuple):
    """What a job file says: its nodes, devices of each, variables, and the words after the launcher."""

    deployment: str
    replica: int
    nodes: tuple[str, ...]
    devices: int
    environment: Mapping[str, str]
    words: tuple[str, ...]


def path_of(server: Server) -> str:
    """Return the name of a replica's job file."""
    return f"{server.name}.sbatch"


def submission(server: Server) -> str:
    """Return the command that submits a replica's job to the nodes that the hosts file names."""
    nodes = ",".join(f"${address_of(name)}" for name in server.nodes)
    return f'sbatch --nodelist="{nodes}" {path_of(server)}'


def job(server: Server, image: str, words: Sequence[str], environment: Mapping[str, str], hosts: str) -> str:
    """Return a job file: one MPI process for each device, the containers started by Slurm's pyxis plugin.

    ``words``: the engine's launcher and what it starts. ``hosts``: the file of addresses and folders. The first node in
    Slurm's order runs rank 0, which takes requests.
    """
    nodes, each = server.nodes, len(server.parts[0].devices)
    registry, _, name = image.partition("/")
    folder = slug(server.deployment.name)
    lines = [
        "#!/bin/bash",
        f"# {folder}, replica {server.number}: {len(nodes)} nodes of {each} devices; {nodes[0]} takes requests",
        f"#SBATCH --job-name={server.name}",
        f"#SBATCH --nodes={len(nodes)}",
        f"#SBATCH --nodelist={','.join(nodes)}",
        f"#SBATCH --ntasks-per-node={each}",
        f"#SBATCH --gpus-per-node={each}",
        "#SBATCH --exclusive",
        "set -eu",
        'cd "$SLURM_SUBMIT_DIR"',
        f"set -a && . ./{hosts} && set +a",
        *(f"export {key}={shlex.quote(value)}" for key, value in environment.items()),
        "exec srun --mpi=pmix --kill-on-bad-exit=1 \\",
        f"  --container-image='{registry}#{name}' \\",
        f'  --container-mounts="{_MOUNTED.format(folder)}" \\',
        f"  {shlex.join(words)}",
    ]
    return "\n".join([*lines, ""])


def read_job(text: str, launcher: Sequence[str]) -> Job:
    """Return what a job file says; ``launcher``: the words before those that are returned."""
    said: dict[str, Any] = dict(_SECTIONS.findall(text))
    command = shlex.split(text[text.index("exec srun") :].replace("\\\n", " "))
    start = command.index(launcher[0])
    exported = re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE)
    mounts = next(word for word in command if word.startswith("--container-mounts="))
    deployment = mounts.partition("$PWD/")[2].partition(":")[0]
    return Job(
        deployment,
        int(said["job-name"].removeprefix(f"{deployment}-r")),
        tuple(said["nodelist"].split(",")),
        int(said["gpus-per-node"]),
        {key: shlex.split(value)[0] for key, value in exported},
        tuple(command[start + len(launcher) :]),
    )
