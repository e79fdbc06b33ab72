"""The journal: an SQLite file that holds every verdict and event before any output sends it."""
