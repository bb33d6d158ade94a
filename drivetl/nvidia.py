"""What nvidia-smi says of the GPUs in this machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

__all__ = ["ask_nvidia_smi"]

_PROGRAM = "nvidia-smi"
# Without a daemon that keeps the driver loaded it takes seconds; where the driver hangs, it hangs too.
_TIMEOUT_S = 10


def ask_nvidia_smi(fields: Sequence[str]) -> list[dict[str, str | None]] | None:
    """Return one row for each GPU that nvidia-smi lists, by the names of the fields.

    Args:
        fields: what ``nvidia-smi --help-query-gpu`` lists; values come in its units, without the units' names.

    Returns:
        None where nvidia-smi is absent or hangs; no rows where it refuses, as it does fields that it does not know. A
        value is None where it has none for this GPU.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        return None
    query = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            query, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    rows = [[_value(part) for part in line.split(",")] for line in answer.stdout.splitlines()]
    if answer.returncode:
        return []
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def _value(text: str) -> str | None:
    """Return a value; None for ``[N/A]``, ``[Not Supported]`` and whatever else it puts in brackets."""
    text = text.strip()
    return None if not text or text == "N/A" or text.startswith("[") else text
