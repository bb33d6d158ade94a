"""drivetl: take a COCO-pretrained YOLO to a new road, prove that it works there, and ship it to the car."""

__version__ = "0.1.0"
