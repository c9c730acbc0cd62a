"""Models and tensors: loading, sampling, GRPO, checkpoints. Knows nothing of peers or network."""
