"""Launch files for vLLM: `vllm serve --config` files, started by Compose files."""

from planner.launch.compose import both_ways
from planner.launch.vllm import ENGINE

files, read = both_ways(ENGINE)
