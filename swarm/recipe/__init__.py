"""What is learned: the recipe schema, task sources, verifiers and prompts. Pure: no network, no torch, no clock."""
