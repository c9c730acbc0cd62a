"""`swarm doctor`: why a peer cannot take part, in one sentence each, and what to do."""
