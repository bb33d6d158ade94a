"""Accuracy of a checkpoint or a bundle on a dataset, through the letterbox and decoder that run in the car."""

from drivetl.evaluate.evaluation import EvaluationResult, evaluate
from drivetl.evaluate.model import Model, open_model
from drivetl.evaluate.scoring import Score

__all__ = ["EvaluationResult", "Model", "Score", "evaluate", "open_model"]
