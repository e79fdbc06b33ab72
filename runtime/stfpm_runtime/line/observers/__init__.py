"""Observers of verdicts: status, drift, shadow model, logs. An observer cannot end the loop."""
