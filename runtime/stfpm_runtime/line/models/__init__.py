"""The model of a line: choosing it at the start, trying a new one, and swapping it while the line runs."""
