"""Accuracy, latency and parity of the artifact that ships."""
