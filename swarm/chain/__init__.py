"""The registry contract seen from Python, and the embedded development chain."""
