"""A source (video file, camera, stream, folder of pictures) through a bundle to an annotated video."""

from drivetl.video.pipeline import STAGES, VideoResult, VideoSettings, run_video
from drivetl.video.sources import PICTURES_PER_S, LiveOptions, open_source

__all__ = ["PICTURES_PER_S", "STAGES", "LiveOptions", "VideoResult", "VideoSettings", "open_source", "run_video"]
