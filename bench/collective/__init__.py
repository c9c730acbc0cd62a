"""What peers give each other: N peers as N sets of weights and optimiser states over one model, in one process.

The real sampler, update, choice of groups and merging run; only network, critiques and revisions are left out.
"""
