"""Launch files for vLLM with the vllm-ascend plugin: `vllm serve --config` files, started by Compose files."""

from planner.launch.compose import both_ways
from planner.launch.vllm_ascend import ENGINE

files, read = both_ways(ENGINE)
