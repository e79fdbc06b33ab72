"""How old a verdict is when it is delivered."""

from __future__ import annotations

import time
from datetime import datetime

from stfpm_runtime.line.journal.rows import Record


def age_ms(record: Record, run: int, started_ns: int) -> int | None:
    """Return the age of a verdict in ms, or None where it is not known.

    Verdicts of this `run` have the machine's own clock, which does not jump. Those of earlier runs have the wall clock,
    and are not younger than this run, which began at `started_ns` of the machine's clock. If the wall clock was set
    back since, their age is not known.
    """
    now_ns = time.monotonic_ns()
    if record["run"] == run:
        return max(0, now_ns - int(record["monotonic_ns"])) // 1_000_000
    try:
        made_s = datetime.fromisoformat(record["time"].replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
    age_s = time.time() - made_s
    return None if age_s < 0 else int(1e3 * max(age_s, (now_ns - started_ns) / 1e9))
