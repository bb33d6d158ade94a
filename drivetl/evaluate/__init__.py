"""Accuracy of a checkpoint or a bundle on a dataset, through the letterbox and decoder that run in the car."""

from drivetl.evaluate.evaluation import EvaluationResult, Run, evaluate
from drivetl.evaluate.model import Model, model_of, open_model
from drivetl.evaluate.scoring import Score
from drivetl.evaluate.weather import WeatherResult, evaluate_weather, score_in

__all__ = [
    "EvaluationResult",
    "Model",
    "Run",
    "Score",
    "WeatherResult",
    "evaluate",
    "evaluate_weather",
    "model_of",
    "open_model",
    "score_in",
]
