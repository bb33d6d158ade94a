"""What a detector says about one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detections"]


@dataclass(frozen=True, slots=True)
class Detections:
    """Detections of one picture, most confident first.

    Attributes:
        xyxy_px: float32 ``(n, 4)``: left, top, right, bottom in pixels of the original picture, inside it.
        confidence: float32 ``(n,)`` in [0, 1].
        class_id: int64 ``(n,)``: index into the contract's class names.
    """

    xyxy_px: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.confidence)

    def above(self, confidence: float) -> Detections:
        """Return the detections whose confidence is greater than the given one."""
        keep = self.confidence > confidence
        return Detections(self.xyxy_px[keep], self.confidence[keep], self.class_id[keep])
