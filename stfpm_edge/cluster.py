"""Trainings that are distributed over a Ray cluster.

A worker that dies costs its own job, which runs again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from stfpm_runtime.errors import MissingExtraError, StfpmError, TrainingError, first_line

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise MissingExtraError("ray", "ray") from None

RETRIES = 3
"""The number of times that a job is started again after its worker process or its machine has died."""
J = TypeVar("J")
R = TypeVar("R")


def map_on_ray(
    function: Callable[[J], R], jobs: Sequence[J], address: str, name: Callable[[J], str], gpus_each: float = 0.0
) -> Iterator[tuple[J, R | Exception]]:
    """Yield each job with its result, in the order in which they end, from the cluster at `auto` or HOST:PORT.

    Every machine needs the files that the jobs name at the same path. A job that fails gives its exception, one that
    is lost a TrainingError with its name. Raises TrainingError where the cluster cannot be reached.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise TrainingError(f"Ray at {address}: cannot be reached ({error}); start it with: ray start") from None
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus_each, max_retries=RETRIES)(function)
        pending = {task.remote(job): job for job in jobs}
        while pending:
            (done,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                result: R | Exception = ray.get(done)
            except RayTaskError as error:
                cause = error.cause
                result = cause if isinstance(cause, StfpmError) else error
            except RayError as error:
                result = TrainingError(f"Ray lost {name(job)} ({first_line(error)})")
            yield job, result
    finally:
        ray.shutdown()
