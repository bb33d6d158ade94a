"""Which processor cores this process may use, and how its threads wait for each other. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["disturbed", "let_threads_sleep", "load_sentence", "usable_cores"]

_DISTURBED_CORES = 0.2


def usable_cores() -> int:
    """Return the number of cores that the system lets this process run on, at least 1.

    A container or ``taskset`` may give fewer than the machine has; where the system does not tell, it is all of them.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def let_threads_sleep() -> None:
    """Let torch's threads sleep while they wait for each other, unless the user has said otherwise.

    By themselves they spin. As soon as one other program runs, those that wait take the core of the one they wait for:
    measured on two cores, evaluating 60 pictures took 265 seconds beside it instead of 15. OpenMP reads the variable
    when torch is loaded, so this must come first.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def disturbed(load: Mapping[str, Any] | None) -> bool:
    """Tell whether other programs kept so much of the machine busy that a time measured meanwhile is not the model's.

    Args:
        load: what a benchmark kept of it, see `drivetl.deploy.machine.Load`; None where an older one kept nothing.
    """
    others = (load or {}).get("other_programs_cores")
    return others is not None and bool(others > _DISTURBED_CORES)


def load_sentence(load: Mapping[str, Any] | None) -> str | None:
    """Return what other programs did while a time was measured, in one sentence; None where the system does not tell.

    Args:
        load: see `disturbed`.
    """
    others = (load or {}).get("other_programs_cores")
    if others is None:
        return None
    consequence = ": these are figures of a disturbed machine" if disturbed(load) else ""
    return f"Other programs kept {others:g} cores busy meanwhile{consequence}."
