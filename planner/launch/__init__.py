"""What the launch files of every engine are made of: replicas on nodes, options held to an engine's definition."""
