"""Jobs on a Ray cluster, for those who outgrow one machine. A worker that dies costs its own job, which runs again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from stfpm_runtime.errors import MissingExtraError, StfpmError, TrainingError

from .runs import Job, Outcome, Runner, run_job

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError:
    raise MissingExtraError("ray", "ray") from None

RETRIES = 3
"""How often a job starts again after its worker or its machine died."""


def on_ray(address: str, gpus_each: float = 0.0) -> Runner:
    """Return a runner over the cluster at `address`: `auto` or HOST:PORT. Every machine has the data at the same path.

    Raises TrainingError where the cluster cannot be reached; a job that is lost has one as its outcome.
    """

    def runner(jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (RayError, ConnectionError, ValueError, RuntimeError) as error:
            raise TrainingError(f"Ray at {address}: cannot be reached ({error}); start it with: ray start") from None
        try:
            yield from _results(jobs, gpus_each)
        finally:
            ray.shutdown()

    return runner


def _results(jobs: Sequence[Job], gpus_each: float) -> Iterator[tuple[Job, Outcome]]:
    task = ray.remote(num_cpus=1, num_gpus=gpus_each, max_retries=RETRIES)(run_job)
    pending = {task.remote(job): job for job in jobs}
    while pending:
        (done,), _ = ray.wait(list(pending), num_returns=1)
        job = pending.pop(done)
        try:
            result: Outcome = ray.get(done)
        except RayTaskError as error:
            cause = error.cause
            result = cause if isinstance(cause, StfpmError) else error
        except RayError as error:
            reason = str(error).partition("\n")[0]
            result = TrainingError(f"Ray lost {job.category} ({reason})")
        yield job, result
