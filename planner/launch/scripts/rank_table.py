"""Writes the table of ranks that HCCL and MindIE start from where a replica stands on several nodes.

    python3 rank_table.py FILE DEVICES NODE...

Ranks run over the nodes in the order given, on each over its devices by number: DEVICES on every node. What they are
called on their network is in variables, which hosts.env gives: NODE_ADDRESS, NODE_DEVICE_IPS (a list with commas), and
of a node in a supernode NODE_SUPER_DEVICE_IDS (likewise) and NODE_SUPER_POD_ID. Nothing is written unless all of them
are right.
"""

import ipaddress
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_MODE = 0o640  # MindIE takes no file that others may read
_HOW = "`sh devices.sh` prints these lines on the node itself"


def problems(nodes: Sequence[str], devices: int, given: Mapping[str, str]) -> Iterator[str]:
    """Yield what is missing or wrong of the variables."""
    for node in nodes:
        address = given.get(f"{node}_ADDRESS", "")
        if not _is_address(address):
            yield f"{node}_ADDRESS is {address!r}, MindIE takes an IP address"
        addresses = _listed(given, f"{node}_DEVICE_IPS")
        wrong = [item for item in addresses if not _is_address(item)]
        if wrong or len(addresses) != devices:
            amiss = f"{', '.join(map(repr, wrong))} among them" if wrong else f"it has {len(addresses)}"
            yield f"{node}_DEVICE_IPS takes {devices} IP addresses with commas between, {amiss}; {_HOW}"
        if not _in_supernode(node, given):
            continue
        ids = _listed(given, f"{node}_SUPER_DEVICE_IDS")
        if len(ids) != devices or not all(item.isdigit() for item in ids):
            yield f"{node}_SUPER_DEVICE_IDS takes {devices} numbers with commas between, it has {len(ids)}; {_HOW}"
        if not given.get(f"{node}_SUPER_POD_ID", "").strip():
            yield f"{node}_SUPER_POD_ID is empty; {_HOW}"
    names = [f"{node}_{what}" for what in ("ADDRESS", "DEVICE_IPS") for node in nodes]
    holders: dict[str, list[str]] = {}
    for name in names:
        for item in _listed(given, name):
            holders.setdefault(item, []).append(name)
    for shared in dict.fromkeys(tuple(found) for found in holders.values() if len(found) > 1):
        items = [item for item, found in holders.items() if tuple(found) == shared]
        yield f"{' and '.join(dict.fromkeys(shared))}: {', '.join(items)} more than once"


def table(nodes: Sequence[str], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the table: of nodes in supernodes with what devices are called there, which lets them meet inside."""
    servers: list[dict[str, Any]] = []
    pods: dict[str, list[dict[str, str]]] = {}
    first = 0
    for node in nodes:
        address = given[f"{node}_ADDRESS"].strip()
        columns = {"device_ip": _listed(given, f"{node}_DEVICE_IPS")}
        if _in_supernode(node, given):
            columns["super_device_id"] = _listed(given, f"{node}_SUPER_DEVICE_IDS")
            pods.setdefault(given[f"{node}_SUPER_POD_ID"].strip(), []).append({"server_id": address})
        devices = [
            {"device_id": str(i), "rank_id": str(first + i), **{key: values[i] for key, values in columns.items()}}
            for i in range(len(columns["device_ip"]))
        ]
        first += len(devices)
        servers.append({"server_id": address, "container_ip": address, "device": devices})
    found = {"version": "1.2" if pods else "1.0", "server_count": str(len(servers)), "server_list": servers}
    if pods:
        found["super_pod_list"] = [{"super_pod_id": pod, "server_list": here} for pod, here in pods.items()]
    return {**found, "status": "completed"}


def main(words: Sequence[str], given: Mapping[str, str]) -> str:
    """Write the table; return what is wrong, nothing if it was written."""
    path, devices, nodes = Path(words[0]), int(words[1]), list(words[2:])
    found = list(problems(nodes, devices, given))
    if found:
        return "\n".join(f"hosts.env: {line}" for line in found)
    path.write_text(json.dumps(table(nodes, given), indent=1) + "\n", encoding="utf-8")
    path.chmod(_MODE)
    return ""


def _in_supernode(node: str, given: Mapping[str, str]) -> bool:
    return f"{node}_SUPER_DEVICE_IDS" in given


def _listed(given: Mapping[str, str], name: str) -> list[str]:
    return [item.strip() for item in given.get(name, "").split(",") if item.strip()]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip())
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    wrong = main(sys.argv[1:], os.environ)
    if wrong:
        sys.exit(wrong)
