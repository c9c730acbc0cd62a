"""Audits, jury, rewards and points: pure functions that anyone can recompute."""
