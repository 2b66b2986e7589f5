"""Launch files for MindIE: a config.json per deployment, started by Compose files."""

from planner.launch.compose import both_ways
from planner.launch.mindie import ENGINE

files, read = both_ways(ENGINE)
