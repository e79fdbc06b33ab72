"""The command `stfpm-journal`: what it does, and what it prints."""
