"""The model in use: choosing it at the start, trying another one, and swapping it while the line runs."""
