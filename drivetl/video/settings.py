"""What a run is told and what it tells afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivetl.config import StrictModel
from drivetl.progress import Progress, silent
from drivetl.runtime import Detector
from drivetl.video.sources import PICTURES_PER_S

__all__ = ["STAGES", "Around", "Controls", "Model", "Outputs", "Page", "VideoResult", "VideoSettings"]

STAGES = (
    *("read", "weather", "preprocess", "inference", "postprocess", "end_to_end", "track", "draw", "write", "age"),
)


class VideoSettings(StrictModel):
    """How to run; the defaults are those of ``drivetl video``.

    Attributes:
        confidence: threshold in [0, 1]; None takes the detector's. With tracking, an object that was above it is still
            shown for half a second down to 0.4 of it, so that boxes do not flicker.
        classes: only these, by name; empty means all. Of two models, either may know one.
        track: give objects ids; None does so where the package for it is installed, and says so where it is not.
        weather: a condition and its severity, as ``fog:4``, laid over the video before detection.
        show: also open a window; the key q closes it and ends the run.
        limit: stop after this many frames.
        picture_fps: rate at which the pictures of a folder play.
        allow_truncated: use a damaged video as far as it can be read, and leave out pictures that cannot.
        max_age_ms: a frame of a camera or stream that waited longer is dropped.
        reconnect_s: how long a camera or stream that is gone is waited for; 0: not at all.
        stills: how many stills are kept, where a folder for them is given.
    """

    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    classes: tuple[str, ...] = ()
    track: bool | None = None
    weather: str | None = None
    show: bool = False
    limit: Annotated[int, Field(ge=1)] | None = None
    picture_fps: Annotated[float, Field(gt=0, le=1000)] = PICTURES_PER_S
    allow_truncated: bool = False
    max_age_ms: Annotated[float, Field(ge=1)] = 100.0
    reconnect_s: Annotated[float, Field(ge=0)] = 60.0
    stills: Annotated[int, Field(ge=1, le=1000)] = 6


@dataclass(frozen=True, slots=True)
class Model:
    """An open bundle and what it is called on the picture."""

    detector: Detector
    name: str = ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go; None writes none.

    Attributes:
        video: the annotated video, ending in .mp4, .mov or .mkv.
        detections: one JSON document for each frame, one a line.
        mot: tracks as text in the format of MOTChallenge.
        stills: a folder for pictures of the most interesting frames.
        overwrite: replace what stands there.
    """

    video: Path | None = None
    detections: Path | None = None
    mot: Path | None = None
    stills: Path | None = None
    overwrite: bool = False


@dataclass(slots=True)
class Controls:
    """What may be changed while a run goes on, from any thread.

    Attributes:
        confidence: the threshold in force.
        paused: whether frames are held back; a live source drops them meanwhile.
        ended: set to end the run.
    """

    confidence: float
    paused: bool = False
    ended: bool = False


class Page:
    """Somebody who watches a run: told every frame, able to change its controls. Does nothing by itself."""

    def begin(self, controls: Controls, facts: dict[str, Any]) -> None:
        """Take the controls, and what stays the same throughout: names of source, models and classes."""

    def publish(self, image_bgr: NDArray[np.uint8], state: dict[str, Any]) -> None:
        """Take a finished frame, which must not be changed, and the figures that go with it."""

    def tell(self, text: str) -> None:
        """Take a sentence about what happens to a camera or stream."""


@dataclass(frozen=True, slots=True)
class Around:
    """Whom a run asks and tells.

    Attributes:
        stopped: asked before every frame; once it says yes, what was written so far becomes a playable file.
        progress: told the frames.
        say: told what happens to a camera or stream and what a model does not know, one sentence each.
        page: told every frame, and what is said.
    """

    stopped: Callable[[], bool] = lambda: False
    progress: Progress = silent
    say: Callable[[str], None] = lambda text: None
    page: Page | None = None

    def tell(self, text: str) -> None:
        """Pass on a sentence about the source to everybody."""
        self.say(text)
        if self.page is not None:
            self.page.tell(text)


@dataclass(frozen=True, slots=True)
class VideoResult:
    """What a run did.

    Attributes:
        source: name of the source, without passwords.
        frames_in: frames that the source delivered.
        frames_out: frames that were detected, annotated and handed on.
        dropped: frames that were delivered and not handed on; files drop none.
        fps: frames handed on for each second of wall-clock time, reading and writing included.
        source_fps: frames for each second of the source's own playing time; the written file has the same, but for
            cameras and streams, whose frames keep the times at which they came.
        latency_ms: ``{stage: {"p50": …, "p99": …}}`` in milliseconds, at most 1 % too large, without waiting between
            stages, which overlap. The stages are those of `STAGES`: ``end_to_end`` is preprocess, inference and
            postprocess of one frame, which is what a car pays; ``age``, of cameras and streams only, is the time from
            when a frame had arrived and was decoded until it was drawn and shown, before it is written. Camera,
            network and decoder come on top, which for a stream of H.264 is two frames and more. The first frame
            runs through the detector once more beforehand, so that no figure holds the start-up.
        per_class: detections by class name, most frequent first, summed over frames (not distinct objects); with
            tracking, those that are shown below the threshold for a moment included.
        tracks: distinct objects by class name; None without tracking.
        compared: ``model``, ``per_class``, ``tracks`` and ``latency_ms`` of the second model; None without one.
        live: ``reconnects`` and ``longest_silence_s`` of a camera or stream; None for files.
        stills: pictures that were written.
        codec: of the written file: ``h264`` or ``mpeg4``; None if nothing was written.
        size_wh: width and height of the frames in pixels.
        interrupted: whether the user stopped the run before the source ended.
        notes: what the user should know, one sentence each.
        unreadable: pictures of a folder or list that could not be read and were left out.
    """

    source: str
    frames_in: int
    frames_out: int
    dropped: int
    fps: float
    source_fps: float
    latency_ms: dict[str, dict[str, float]]
    per_class: dict[str, int]
    codec: str | None
    size_wh: tuple[int, int]
    interrupted: bool
    notes: tuple[str, ...]
    tracks: dict[str, int] | None = None
    compared: dict[str, Any] | None = None
    live: dict[str, float] | None = None
    stills: tuple[Path, ...] = field(default=())
    unreadable: int = 0
