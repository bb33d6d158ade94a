"""Coherent weather over a video, as ``fog:4`` asks for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError
from drivetl.weather import WeatherClip, parse_weather

__all__ = ["VideoWeather"]

_SEED = 0
_MOST_SIZES = 16


class VideoWeather:
    """Lays one kind of weather over frames in order; does nothing where none is asked for."""

    def __init__(self, text: str | None, fps: float) -> None:
        """Read what is asked for.

        Args:
            text: a condition and a severity of 1 to 5, as ``fog:4``; the condition alone means 3; None: no weather.
            fps: frames a second.

        Raises:
            ConfigError: there is no such weather.
        """
        self.active = text is not None
        self._fps = min(1000.0, max(0.1, fps))
        self._condition, self._severity = _parsed(text) if text is not None else ("", 0)
        self._count = 0
        self._clips: dict[tuple[int, ...], WeatherClip] = {}

    def __call__(self, image_bgr: NDArray[np.uint8], time_s: float | None = None) -> NDArray[np.uint8]:
        """Return the frame in its weather; where the size changes, the same weather goes on in the other size.

        Args:
            image_bgr: the next frame.
            time_s: when it is shown, in seconds after the first; None: the even rate says so.
        """
        size_hw = image_bgr.shape[:2]
        if size_hw not in self._clips:
            if len(self._clips) >= _MOST_SIZES:
                self._clips.clear()
            # The same seed everywhere: the same parameters, drops and flakes.
            rng = np.random.default_rng(_SEED)
            self._clips[size_hw] = WeatherClip(self._condition, self._severity, rng=rng, fps=self._fps)
        # The clip would count only the frames of its size.
        now_s = self._count / self._fps if time_s is None else time_s
        self._count += 1
        return self._clips[size_hw](image_bgr, time_s=now_s)


def _parsed(text: str) -> tuple[str, int]:
    try:
        return parse_weather(text)
    except ConfigError as error:
        raise ConfigError(f"--weather {error}") from error
