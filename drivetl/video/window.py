"""A window that shows frames as they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from drivetl.errors import VideoError

__all__ = ["Window"]

_PROBE = "import cv2; cv2.namedWindow('drivetl'); cv2.waitKey(1)"
_PROBE_TIMEOUT_S = 20
# Qt opens a window of 400 by 300, in which no label can be read. Larger frames are shown smaller, as screens are.
_LARGEST_WH = 1280, 720
# OpenCV's Qt names a folder of fonts that the wheel does not bring, and says so in ten lines for every window.
_QUIET_QT = "default.warning=false"


class Window:
    """A window with a name; use it as a context manager. The key q, or the window's own button, closes it."""

    def __init__(self, name: str) -> None:
        """Open the window.

        Raises:
            VideoError: this machine or this build of OpenCV shows no windows.
        """
        os.environ.setdefault("QT_LOGGING_RULES", _QUIET_QT)
        # Without a display Qt aborts the whole process, which nothing can catch; so a child process tries first.
        try:
            probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=_PROBE_TIMEOUT_S)
            works = probe.returncode == 0
        except subprocess.TimeoutExpired:
            works = False
        if not works:
            raise VideoError(
                "--show cannot open a window: there is no display (DISPLAY or WAYLAND_DISPLAY), or this OpenCV was "
                "built without windows (opencv-python-headless); write a file with --out instead"
            )
        self._name = name
        self._sized = False
        self.closed = False
        cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cv2.destroyAllWindows()

    def show(self, image_bgr: NDArray[np.uint8]) -> None:
        """Show a frame, uint8 ``(height, width, 3)`` BGR, and look whether the user closed the window."""
        if not self._sized:
            height, width = image_bgr.shape[:2]
            scale = min(1.0, _LARGEST_WH[0] / width, _LARGEST_WH[1] / height)
            cv2.resizeWindow(self._name, max(1, round(scale * width)), max(1, round(scale * height)))
            self._sized = True  # once: from then on the size is the user's
        cv2.imshow(self._name, image_bgr)
        self.keep_alive()

    def keep_alive(self) -> None:
        """Let the window answer its user, and look whether it was closed."""
        pressed = cv2.waitKey(1) & 0xFF
        self.closed = pressed == ord("q") or cv2.getWindowProperty(self._name, cv2.WND_PROP_VISIBLE) < 1
