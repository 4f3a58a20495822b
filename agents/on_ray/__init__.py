"""A run on Ray: agents and fusion nodes as actors, their restarts, the cluster, metrics. The only room that names Ray."""
