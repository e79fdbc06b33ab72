"""Experiments and one-off measurements: scripts, not installed."""
