"""The commands around the registry contract: `python -m swarm deploy`, `register`, `owner`, `claim`, `pause`, ..."""
