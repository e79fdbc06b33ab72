"""The demo: a drawn product, from pictures to verdicts."""
