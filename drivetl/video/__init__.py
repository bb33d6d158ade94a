"""A source (video file, camera, stream, pictures) through one or two bundles to an annotated video."""

from drivetl.video.pipeline import run_video
from drivetl.video.settings import STAGES, Around, Controls, Model, Outputs, Page, VideoResult, VideoSettings
from drivetl.video.sources import PICTURES_PER_S, LiveOptions, open_source

__all__ = [
    "PICTURES_PER_S",
    "STAGES",
    "Around",
    "Controls",
    "LiveOptions",
    "Model",
    "Outputs",
    "Page",
    "VideoResult",
    "VideoSettings",
    "open_source",
    "run_video",
]
