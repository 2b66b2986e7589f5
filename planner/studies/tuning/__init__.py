"""The closed loop of trials: plan, try what tells most per hour, learn from it, stop when another is not worth it."""
