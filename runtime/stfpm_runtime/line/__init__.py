"""The inspection loop of a line: cameras in, a journal of verdicts out, for months. `loop.py` is the place to begin."""
