"""The model file's contract: what it says of itself, its golden results, parity, and conformal thresholds."""
