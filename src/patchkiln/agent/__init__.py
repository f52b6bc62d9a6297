"""Who makes the change: the agents, each in a package of its own."""
