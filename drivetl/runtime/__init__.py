"""What runs in the car: a frame in, detections out. Needs numpy, OpenCV and ONNX Runtime, nothing else.

>>> from drivetl.runtime import Detector
>>> detector = Detector("bundle")            # doctest: +SKIP
>>> detections = detector(image_bgr)         # doctest: +SKIP
>>> detections.xyxy_px, detections.confidence, detections.class_id      # doctest: +SKIP
"""

from drivetl.runtime.bundle import Bundle, open_bundle
from drivetl.runtime.contract import Contract, Thresholds
from drivetl.runtime.decode import decode
from drivetl.runtime.detections import Detections
from drivetl.runtime.detector import Detector
from drivetl.runtime.letterbox import Geometry, Letterbox, to_tensor
from drivetl.runtime.requirements import PROVIDERS
from drivetl.runtime.session import Session, open_session

__all__ = [
    "PROVIDERS",
    "Bundle",
    "Contract",
    "Detections",
    "Detector",
    "Geometry",
    "Letterbox",
    "Session",
    "Thresholds",
    "decode",
    "open_bundle",
    "open_session",
    "to_tensor",
]
