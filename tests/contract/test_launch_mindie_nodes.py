"""MindIE over several nodes: the start script of every part, run with the devices' tools and the server replaced."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from planner import handover, yaml_io
from planner.catalog import load_scenario
from planner.errors import InputError
from planner.exporters import FORMATS
from planner.launch.servers import servers

SCENARIO = Path(__file__).parents[2] / "scenarios" / "deepseek_r1_910c.yaml"
ASKED = (
    "engine={name: mindie}",
    "search.roles=[mixed]",
    "search.pp=[1]",
    "workloads.reasoning.slo={ttft: 8 s, tpot: 100 ms}",
)
TWO_NODES = "inventory={supernode: {hardware: ascend-910b3, nodes: 4}}"
IN_SUPERNODE = "search.attention_dp=[4]"
# hccn_tool -i N -ip -g and npu-smi info -t spod-info -i N -c N, as their answers look, on the node that TENS numbers.
HCCN_TOOL = '#!/bin/sh\nprintf "ipaddr:10.20.$TENS.$(($2 + 1))\\nnetmask:255.255.0.0\\n"\n'
NPU_SMI = (
    '#!/bin/sh\nprintf "\\t%-30s : %s\\n" SDID $((TENS * 1000 + $5 * 2 + $7)) "Super Pod Size" 384 "Super Pod ID" 7\n'
)
SERVER = '#!/bin/sh\necho "$RANK_TABLE_FILE"; echo "proxy=$http_proxy"\n'


@pytest.fixture(params=[TWO_NODES, IN_SUPERNODE], ids=["two_nodes", "in_supernode"], scope="module")
def placed(request, solved):
    """Replicas of several nodes, and what was written for them."""
    settings = (*ASKED, request.param)
    plan = solved(SCENARIO, settings).plan
    facts = handover.facts_of(load_scenario(SCENARIO, settings), plan)
    return servers(plan, facts), FORMATS["mindie"].load().files(plan, facts)


@pytest.fixture
def node(tmp_path, placed):
    """A folder with the launch files, and an image in it: tools, and the packages and folders that scripts ask for."""
    _, written = placed
    for path, text in written.items():
        here = tmp_path / "launch" / path
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(text)
    made = {"hccn_tool": HCCN_TOOL, "npu-smi": NPU_SMI, "mindie_llm_server": SERVER}
    (tmp_path / "bin").mkdir()
    for name, text in made.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    for name in ("ascend/ascend-toolkit", "ascend/nnal/atb", "site/mindie_llm/conf", "site/atb_llm"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("ascend/ascend-toolkit", "ascend/nnal/atb", "site/mindie_llm"):
        (tmp_path / name / "set_env.sh").write_text(":\n")
    return tmp_path


def run(node, words, **more):
    """Run a command with the tools of a node, and nothing else of this machine's environment."""
    environment = {"PATH": f"{node / 'bin'}:/usr/bin:/bin", "PYTHONPATH": str(node / "site"), **more}
    return subprocess.run(words, cwd=node / "launch", env=environment, capture_output=True, text=True, check=False)


def filled_in(node):
    """The values of hosts.env: addresses by hand, and for each comment that says so what the script prints there."""
    lines = (node / "launch" / "hosts.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    for k, name in enumerate(name for name in given if name.endswith("_ADDRESS")):
        given[name] = f"10.1.0.{k + 1}"
    asked = re.findall(r"^# on (\S+): (sh devices\.sh .*)$", "\n".join(lines), re.MULTILINE)
    assert asked
    for tens, (name, command) in enumerate(asked):
        printed = run(node, command.split(), TENS=str(tens))
        assert printed.returncode == 0, printed.stderr
        found = dict(line.split("=", 1) for line in printed.stdout.splitlines())
        assert found
        assert all(variable.startswith(name.upper().replace("-", "_")) for variable in found)
        assert {variable for variable in found if not given[variable]} == set(found)
        given |= found
    return given


def started(node, service, given):
    """Run a part as Compose would, with the paths of its image in the folder; say what came of it."""

    def put(text):
        return re.sub(r"\$\{(\w+)\}", lambda found: given[found[1]], text)

    folder = next(volume for volume in service["volumes"] if volume.endswith(":/launch:ro")).split(":")[0]
    here = node / "launch" / folder
    script = (here / "start.sh").read_text().replace("/usr/local/Ascend", str(node / "ascend"))
    (node / "start.sh").write_text(script.replace("/launch/", f"{here}/"))
    variables = {name: put(value) for name, value in service["environment"].items()}
    words = [str(node / "start.sh"), *map(put, service["command"][1:])]
    return variables, run(node, ["bash", *words], http_proxy="http://proxy", **variables)


def parts(placed, server):
    """The services of a replica, by part."""
    _, written = placed
    for k, name in enumerate(server.nodes):
        yield yaml_io.parse(written[f"{name}.compose.yaml"], "").data["services"][f"{server.name}-n{k}"]


def test_every_part_starts_from_the_same_table_of_ranks(placed, node):
    given, conf = filled_in(node), node / "site" / "mindie_llm" / "conf"
    spanning = [server for server in placed[0] if len(server.parts) > 1]
    assert spanning
    for server in spanning:
        tables = []
        for k, service in enumerate(parts(placed, server)):
            variables, result = started(node, service, given)
            assert result.returncode == 0, result.stderr
            path = Path(result.stdout.splitlines()[0])
            assert result.stdout.splitlines()[1] == "proxy="
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
            tables.append(json.loads(path.read_text()))
            config = json.loads((conf / "config.json").read_text())
            assert config["ServerConfig"]["port"] == server.port
            backend = config["BackendConfig"]
            assert backend["multiNodesInferEnabled"] is True
            assert backend["multiNodesInferPort"] == server.rendezvous_port
            (model,) = backend["ModelDeployConfig"]["ModelConfig"]
            here = tables[-1]["server_list"][k]
            assert variables["MIES_CONTAINER_IP"] == here["container_ip"] == here["server_id"]
            assert variables["MASTER_IP"] == tables[-1]["server_list"][0]["server_id"]
            assert len(here["device"]) == model["worldSize"] == len(backend["npuDeviceIds"][0])
            path.unlink()
        assert all(table == tables[0] for table in tables)
        check_table(tables[0], server, given)


def check_table(table, server, given):
    """Hold a table to what HCCL and MindIE's own reader (src/config_manager/ranktable_config.cpp) take."""
    assert table["status"] == "completed"
    assert table["server_count"] == str(len(server.parts)) == str(len(table["server_list"]))
    devices = [device for each in table["server_list"] for device in each["device"]]
    assert [device["rank_id"] for device in devices] == [str(i) for i in range(server.deployment.devices_per_replica)]
    assert len({device["device_ip"] for device in devices}) == len(devices)
    assert all(isinstance(value, str) for device in devices for value in device.values())
    for part, name, each in zip(server.parts, server.nodes, table["server_list"], strict=True):
        node = name.upper().replace("-", "_")
        assert [device["device_id"] for device in each["device"]] == [str(i) for i in part.devices]
        assert ",".join(device["device_ip"] for device in each["device"]) == given[f"{node}_DEVICE_IPS"]
        assert each["server_id"] == given[f"{node}_ADDRESS"]
        if table["version"] == "1.2":
            ids = [device["super_device_id"] for device in each["device"]]
            assert ",".join(ids) == given[f"{node}_SUPER_DEVICE_IDS"]
            assert len(set(ids)) == len(ids)
    in_supernode = server.deployment.hardware == "ascend-910c"
    assert table["version"] == ("1.2" if in_supernode else "1.0")
    assert ("super_pod_list" in table) == ("super_device_id" in devices[0]) == in_supernode
    if in_supernode:
        members = [{"server_id": each["server_id"]} for each in table["server_list"]]
        assert table["super_pod_list"] == [{"super_pod_id": "7", "server_list": members}]


def test_what_is_missing_or_wrong_is_said_and_no_server_starts(placed, node):
    server = next(server for server in placed[0] if len(server.parts) > 1)
    service = next(iter(parts(placed, server)))
    given = filled_in(node)
    wrong = {
        "SUPERNODE_1_ADDRESS": ["", "supernode-1", given["SUPERNODE_0_ADDRESS"]],
        "SUPERNODE_1_DEVICE_IPS": [
            "",
            given["SUPERNODE_1_DEVICE_IPS"].rpartition(",")[0],
            given["SUPERNODE_1_DEVICE_IPS"].replace("10.20.", "10.2O.", 1),
            given["SUPERNODE_0_DEVICE_IPS"],
        ],
    }
    if "SUPERNODE_1_SUPER_POD_ID" in given:
        wrong |= {"SUPERNODE_1_SUPER_POD_ID": [""], "SUPERNODE_1_SUPER_DEVICE_IDS": ["", "one,two"]}
    for name, values in wrong.items():
        for value in values:
            _, result = started(node, service, {**given, name: value})
            assert result.returncode != 0
            assert result.stdout == ""
            lines = result.stderr.splitlines()
            assert all(line.startswith("hosts.env: ") for line in lines), result.stderr
            assert any(name in line or value in line for line in lines)
            assert not (node / "site" / "mindie_llm" / "conf" / "rank_table.json").exists()
    for name in wrong:
        given[name] = ""
    _, result = started(node, service, given)
    assert all(any(name in line for line in result.stderr.splitlines()) for name in wrong)


def test_a_node_without_addresses_says_so(placed, node):
    (node / "bin" / "hccn_tool").write_text("#!/bin/sh\necho 'error' >&2\nexit 1\n")
    result = run(node, ["sh", "devices.sh", "SUPERNODE_0", "8"])
    assert result.returncode == 1
    assert result.stdout == ""
    assert "device 0 has no address" in result.stderr
    (node / "bin" / "hccn_tool").write_text(HCCN_TOOL)
    (node / "bin" / "npu-smi").write_text("#!/bin/sh\nexit 1\n")
    result = run(node, ["sh", "devices.sh", "SUPERNODE_0", "8", "supernode"], TENS="0")
    assert result.returncode == 1
    assert "no supernode" in result.stderr
    assert run(node, ["sh", "devices.sh"]).returncode == 2


def test_scripts_are_what_a_shell_takes(placed, node):
    for path in (node / "launch").rglob("*.sh"):
        assert subprocess.run(["bash", "-n", path], env=os.environ, check=False).returncode == 0, path


def test_the_readme_says_what_to_fill_in_and_who_starts_first(placed):
    found, written = placed
    readme = written["README.md"]
    assert "sh devices.sh" in readme
    for server in found:
        assert f"{', '.join(server.nodes)} (`{server.name}`)" in readme
        first, *others = (readme.index(f"-f {name}.compose.yaml") for name in server.nodes)
        assert all(first < other for other in others)


def test_replicas_within_a_node_ask_for_none_of_it(solved):
    settings = ("engine={name: mindie}", *ASKED[1:])
    plan = solved(SCENARIO, settings).plan
    facts = handover.facts_of(load_scenario(SCENARIO, settings), plan)
    assert all(len(server.parts) == 1 for server in servers(plan, facts))
    written = FORMATS["mindie"].load().files(plan, facts)
    assert not any(path.endswith(("devices.sh", "rank_table.py")) for path in written)
    assert "DEVICE_IPS" not in written["hosts.env"]
    assert "MindIE takes no names" in written["hosts.env"]
    assert not any("RANK_TABLE_FILE" in text for text in written.values())
    for text in (text for path, text in written.items() if path.endswith("/mindie.json")):
        backend = json.loads(text)["BackendConfig"]
        assert backend["multiNodesInferEnabled"] is backend["interNodeTLSEnabled"] is False  # both are read in any case
        assert "multiNodesInferPort" not in backend


def test_prefill_and_decode_apart_are_refused_with_a_way_on(solved):
    plan = solved(SCENARIO, (*ASKED, TWO_NODES)).plan
    facts = handover.facts_of(load_scenario(SCENARIO, (*ASKED, TWO_NODES)), plan)
    apart = plan._replace(deployments=tuple(d._replace(role="prefill") for d in plan.deployments))
    with pytest.raises(InputError, match=r"search\.roles=\[mixed\].*vllm-ascend"):
        FORMATS["mindie"].load().files(apart, facts)
