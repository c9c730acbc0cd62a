"""Many peers in one process, over an in-memory network with the methods of the real one."""
