"""Coherent weather over a video, as ``fog:4`` asks for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivetl.errors import ConfigError
from drivetl.weather import WeatherClip, parse_weather

__all__ = ["VideoWeather"]

_SEED = 0


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
        self._fps = fps
        self._condition, self._severity = _parsed(text) if text is not None else ("", 0)
        self._size_hw: tuple[int, ...] = ()
        self._clip: WeatherClip | None = None if text is None else self._new()

    def __call__(self, image_bgr: NDArray[np.uint8], time_s: float | None = None) -> NDArray[np.uint8]:
        """Return the frame in its weather; a change of size begins the weather anew.

        Args:
            image_bgr: the next frame.
            time_s: when it is shown, in seconds after the first; None: the even rate says so.
        """
        if self._size_hw and self._size_hw != image_bgr.shape[:2]:
            self._clip = self._new()
        self._size_hw = image_bgr.shape[:2]
        assert self._clip is not None
        return self._clip(image_bgr, time_s=time_s)

    def _new(self) -> WeatherClip:
        rng = np.random.default_rng(_SEED)
        return WeatherClip(self._condition, self._severity, rng=rng, fps=min(1000.0, max(0.1, self._fps)))


def _parsed(text: str) -> tuple[str, int]:
    try:
        return parse_weather(text)
    except ConfigError as error:
        raise ConfigError(f"--weather {error}") from error
