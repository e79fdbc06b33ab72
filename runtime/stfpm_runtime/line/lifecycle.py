"""The old place of `stfpm_runtime.lifecycle`, until all branches import that."""

from stfpm_runtime.lifecycle import EACH_S, Backoff, Closable, Worker, close_all, stop_all

__all__ = ["EACH_S", "Backoff", "Closable", "Worker", "close_all", "stop_all"]
