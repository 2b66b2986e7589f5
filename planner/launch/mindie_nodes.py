"""MindIE over several nodes: the table of ranks that its parts start from, their variables, and what people fill in.

Sources, in MindIE-LLM at the tag of definitions/mindie.json, below docs/zh/user_guide/user_manual unless they say else:
prefill_decode_mixed_deployment.md, its section on several machines (the parts, who answers, variables, permissions);
rank_table_file_configuration.md (the table, steps 1 to 5); CANN's guide to HCCL, rank table of Atlas A3 (supernodes).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from planner.launch.engine import Beside, network_variables
from planner.launch.facts import Facts
from planner.launch.scripts import script
from planner.launch.servers import Server, address_of, slug

PORT = 1120  # between parts, as by default, until a replica starts
_TABLE, _DEVICES = "rank_table.py", "devices.sh"
START = f"""unset http_proxy https_proxy  # or parts do not reach each other
port=$4
shift 4
sed -i -e 's/"multiNodesInferPort": {PORT}/"multiNodesInferPort": '"$port"/ "$home/conf/config.json"
export RANK_TABLE_FILE=$home/conf/rank_table.json
python3 /launch/{_TABLE} "$RANK_TABLE_FILE" "$@"
"""


def backend(*, several: bool) -> dict[str, Any]:
    """Return the options of BackendConfig that say whether a replica stands on several nodes.

    Certificates between parts are files of their owner, and wanted unless they are turned off: the server reads
    interNodeTLSEnabled even of one node (src/config_manager/backend_config.cpp, InitFromJson).
    """
    ports = {"multiNodesInferPort": PORT} if several else {}
    return {"multiNodesInferEnabled": several, "interNodeTLSEnabled": False} | ports


def words(server: Server) -> list[str]:
    """Return the words that start.sh takes of a part on one of several nodes: how parts meet, devices, nodes."""
    devices = len(server.parts[0].devices)
    return [str(server.rendezvous_port), str(devices), *map(prefix, server.nodes)]


def count(said: Sequence[str]) -> int:
    """Return how many nodes the words of ``words`` name."""
    return max(len(said) - 2, 1)


def prefix(node: str) -> str:
    """Return what variables of a node start with."""
    return address_of(node).removesuffix("_ADDRESS")


def environment(server: Server, facts: Facts) -> dict[str, str]:
    """Return the variables of a part: those that the table is made of, where parts meet, and how they talk.

    LCCL is for one node: examples/atb_models/examples/models/deepseek-r1/README.md turns HCCL on for two.
    """
    asked = [name for node in server.nodes for name in (address_of(node), *_names(node, server, facts))]
    return {
        **{name: f"${{{name}}}" for name in asked},
        **network_variables(),
        "MASTER_IP": f"${{{address_of(server.head)}}}",
        "MASTER_PORT": str(server.rendezvous_port + 1000),
        "ATB_LLM_HCCL_ENABLE": "1",
        "HCCL_CONNECT_TIMEOUT": "7200",
        "HCCL_DETERMINISTIC": "true",
    }


def beside(placed: Sequence[Server], facts: Facts) -> Beside:
    """Return the scripts that make the table, what hosts.env must know for it, and what to see to before.

    Addresses are numbers in any case: the server takes no names (CheckIp of src/utils/common_util.cpp).
    """
    if len({node for server in placed for node in server.nodes}) == 1:
        return Beside()
    several = [server for server in placed if len(server.parts) > 1]
    files = {f"{slug(server.deployment.name)}/{_TABLE}": script(_TABLE) for server in several}
    return Beside(
        {**files, _DEVICES: script(_DEVICES)} if several else {},
        ("# the addresses above must be numbers: MindIE takes no names", *_hosts(several, facts)),
        ("IP addresses in `hosts.env`, no names: MindIE takes no others", *_needs(several)),
    )


def _in_supernode(server: Server, facts: Facts) -> bool:
    """Tell whether nodes of a replica stand in domains of several: they meet there by what devices are called in it."""
    return facts.inventory[server.deployment.inventory].stock.domain > 0


def _names(node: str, server: Server, facts: Facts) -> list[str]:
    """Return the variables of a node's devices."""
    kinds = ["DEVICE_IPS", *(["SUPER_DEVICE_IDS", "SUPER_POD_ID"] if _in_supernode(server, facts) else [])]
    return [f"{prefix(node)}_{kind}" for kind in kinds]


def _hosts(several: Sequence[Server], facts: Facts) -> Iterator[str]:
    if several:
        yield "# what devices are called on their own network, as a command prints it on each node"
    for server in several:
        more = " supernode" if _in_supernode(server, facts) else ""
        for node in server.nodes:
            yield f"# on {node}: sh {_DEVICES} {prefix(node)} {len(server.parts[0].devices)}{more}"
            yield from (f"{name}=" for name in _names(node, server, facts))


def _needs(several: Sequence[Server]) -> Iterator[str]:
    """Yield what to see to before replicas of several nodes start."""
    if not several:
        return
    order = [f"{', '.join(server.nodes)} (`{server.name}`)" for server in several]
    yield (
        f"what devices are called on their own network, in `hosts.env`: `sh {_DEVICES}` prints it on each node, as it "
        "says there; parts of a replica do not start without it, and their logs say what is missing"
    )
    yield "one answer to `hccn_tool -i N -tls -g` on all devices, and their links up (`hccn_tool -i N -link -g`)"
    yield "the same weights on all nodes of a replica, `generation_config.json` among them: otherwise requests can hang"
    yield (
        "a closed network: parts of a replica talk unencrypted (`interNodeTLSEnabled`), since certificates are yours; "
        f"its first node takes them at ports {_ports(several)}"
    )
    yield (
        "the nodes of a replica started in this order, the first of which answers, the others within two minutes, for "
        f"which they look for it before they start anew: {'; '.join(order)}"
    )


def _ports(several: Sequence[Server]) -> str:
    ports = sorted({port for server in several for port in (server.rendezvous_port, server.rendezvous_port + 1000)})
    return " and ".join(map(str, ports))
