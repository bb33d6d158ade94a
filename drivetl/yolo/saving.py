"""Files of tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from drivetl.files import writing

__all__ = ["save_tensors"]


def save_tensors(document: dict[str, Any], path: Path) -> None:
    """Write a document of tensors; torch's own error for a refused write names neither file nor reason.

    Raises:
        OutputError: the system refuses to write.
    """
    with writing(path):
        try:
            torch.save(document, path)
        except RuntimeError as error:
            raise OSError(f"not all of it could be written ({str(error).partition(chr(10))[0]})") from error
