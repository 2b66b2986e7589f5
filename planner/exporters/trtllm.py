"""Launch files for TensorRT-LLM: an options file for `trtllm-serve --config`, started by Compose files."""

from planner.launch.compose import both_ways
from planner.launch.trtllm import ENGINE

files, read = both_ways(ENGINE)
