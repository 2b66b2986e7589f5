"""Launch files for SGLang: `sglang.launch_server --config` files, started by Compose files."""

from planner.launch.compose import both_ways
from planner.launch.sglang import ENGINE

files, read = both_ways(ENGINE)
