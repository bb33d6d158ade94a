"""How many processor cores this process may use. Standard library only."""

from __future__ import annotations

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """Return the number of cores that the system lets this process run on, at least 1.

    A container or ``taskset`` may give fewer than the machine has; where the system does not tell, it is all of them.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
