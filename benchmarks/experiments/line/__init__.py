"""Measurements of a running line: its loop, its deadline, its journal, its outputs, and how long it lasts."""
