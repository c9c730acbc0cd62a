"""Points of an epoch: recomputed by everybody from signed records, agreed upon, and put on the chain."""
