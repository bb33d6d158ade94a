"""What a training run is told. Defaults are for fine-tuning on tens to hundreds of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from drivetl.config import StrictModel
from drivetl.errors import ConfigError
from drivetl.weather import parse_weather
from drivetl.weather.mix import WeatherMix

__all__ = ["NOMINAL_BATCH", "TrainConfig"]

# Pictures that Ultralytics collects gradients over at most.
NOMINAL_BATCH = 64

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class TrainConfig(StrictModel):
    """Settings of one training run.

    The learning rate and the optimiser are obeyed as given: Ultralytics' ``auto``, which replaces both, is not
    offered. Measured on 89 fog pictures, its choice costs a pretrained model half its accuracy before it recovers.
    """

    data: Path
    weights: str
    epochs: int = Field(
        default=10, ge=0, le=10_000, description="passes in which every layer learns; 0: none, only what comes before"
    )
    imgsz: int = Field(default=640, ge=64, le=4096, multiple_of=32, description="longer side in pixels")
    batch: int = Field(default=8, ge=1, le=1024)
    device: str = "cpu"
    optimizer: Literal["AdamW", "Adam", "SGD"] = "AdamW"
    lr0: float = Field(default=2e-4, gt=0.0, le=1.0)
    lrf: float = Field(default=0.05, gt=0.0, le=1.0, description="final learning rate as a share of lr0")
    weight_decay: float = Field(default=5e-4, ge=0.0, le=1.0)
    # Ultralytics starts a warm-up at a learning rate of 0.1 for biases; here it starts at 0 for everything.
    warmup_epochs: float | None = Field(default=None, ge=0.0, le=100.0, description="null: a tenth of the epochs")
    mosaic: Unit = Field(default=0.5, description="share of training pictures shown as a mosaic of four")
    close_mosaic_share: Unit = Field(default=0.1, description="share of the epochs, at the end, without mosaic")
    scale: float = Field(default=0.3, ge=0.0, lt=1.0)
    fliplr: Unit = 0.5
    weather: WeatherMix | None = Field(default=None, description="weather on each picture, before mosaic")
    albumentations: Path | None = Field(
        default=None, description="a pipeline written by albumentations.save, for each picture in place of weather"
    )
    # LP-FT (Kumar et al., ICLR 2022): a head that fits first does not pull the features out of shape.
    head_epochs: int = Field(
        default=0, ge=0, le=1000, description="passes in which only the head learns, on features computed once"
    )
    # Layer-wise learning-rate decay (Howard and Ruder, ULMFiT, ACL 2018).
    layer_decay: float = Field(
        default=1.0, gt=0.0, le=1.0, description="factor on the learning rate for each layer further from the head"
    )
    # L2-SP (Li, Grandvalet and Davoine, ICML 2018), decoupled from the gradient as in AdamW.
    l2_sp: Unit = Field(default=0.0, description="share of the way back to the start that each step goes at full lr0")
    # Rehearsal of the source domain.
    replay: Path | None = Field(default=None, description="a dataset of source pictures, shown beside the target's")
    replay_split: str = "train"
    replay_ratio: float = Field(
        default=1.0, gt=0.0, le=10.0, description="source pictures in every epoch for each target picture"
    )
    retention: Path | None = Field(
        default=None, description="a dataset of source pictures that measures what was forgotten when weights are mixed"
    )
    retention_split: str = "val"
    # Repeat-factor sampling (Gupta, Dollar and Girshick, LVIS, CVPR 2019).
    repeat_threshold: Unit = Field(
        default=0.0, description="pictures of classes that stand in a smaller share of them are shown more often"
    )
    small_object_crops: Unit = Field(
        default=0.0,
        description="share of the target's training pictures that are shown as a crop around a small object, twice as "
        "large",
    )
    # Mean teacher (Tarvainen and Valpola, NeurIPS 2017); see drivetl.adapt.self_training.
    labels: Literal["used", "teacher"] = Field(
        default="used", description="the dataset's, or none: the weights' own moving average labels clean pictures"
    )
    pictures: int | None = Field(
        default=None, ge=1, description="train on this many pictures only; a smaller number is a subset of a larger"
    )
    # WiSE-FT (Wortsman et al., CVPR 2022): between the start's weights and the fine-tuned ones.
    wise_ft: Unit | Literal["select"] = Field(
        default=1.0,
        description="share of the fine-tuned weights in the result; 1: they alone; select: see wise_ft_shares",
    )
    wise_ft_shares: tuple[Unit, ...] = Field(
        default=(0.25, 0.5, 0.75, 1.0), min_length=1, description="shares that are tried; 0, the start, always is"
    )
    do_no_harm: bool = Field(
        default=True,
        description="where a share is given, hold the weights against the start, and keep the start if they are worse",
    )
    max_forgetting: Unit = Field(
        default=0.02, description="mAP50-95 on the retention pictures that a selected share may cost"
    )
    forgetting_price: float = Field(
        default=1.0, ge=0.0, le=100.0, description="mAP50-95 on the target that one on the retention pictures is worth"
    )
    selection_weather: tuple[str, ...] = Field(
        default=(),
        description="weather in which shares are measured too, as condition:severity; costs a measurement each",
    )
    weather_share: Unit = Field(
        default=0.5, description="how much of a selected share's gain is counted in that weather, the rest without"
    )
    selection_folds: int = Field(
        default=3, ge=2, le=20, description="folds of the training pictures that select where the split is too small"
    )
    min_selection_pictures: int = Field(default=50, ge=1, description="pictures that a split needs to select alone")
    # Hinton et al. (2015), Li and Hoiem (ECCV 2016): what the start says of a picture is a target beside its labels.
    # Under weather the start sees the clean picture.
    distill: float = Field(
        default=0.0, ge=0.0, le=100.0, description="weight of the start's own predictions as targets"
    )
    # AdaBN: Li et al., "Revisiting batch normalization for practical domain adaptation" (2016).
    batch_norm: Literal["batch", "frozen", "adapted", "reestimated"] = Field(
        default="batch",
        description="normalise by each batch; by the start's statistics; by those of the target pictures under the "
        "start (AdaBN), frozen; or as batch, with statistics of the target pictures computed anew at the end",
    )
    freeze: int = Field(default=0, ge=0, le=23, description="this many layers, from the input, keep their weights")
    min_optimiser_steps: int = Field(default=100, ge=0, le=1_000_000)
    patience: int = Field(default=0, ge=0, description="epochs without gain before stopping; 0 never stops")
    selection_split: str | None = Field(default="val", description="split that chooses the epoch; null: the last one")
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    workers: int = Field(default=4, ge=0, le=64, description="loader processes on a GPU; on the CPU there are none")
    threads: int | None = Field(default=None, ge=1, le=1024, description="CPU threads; null: every core")
    amp: bool = Field(default=True, description="mixed precision on a GPU, and on a CPU that computes in bfloat16")
    trackers: tuple[Literal["tensorboard", "mlflow"], ...] = Field(default=(), description="get the training log too")
    mlflow_uri: str | None = Field(default=None, min_length=1, description="null: MLFLOW_TRACKING_URI, else the run")

    @field_validator("weights")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("give a path or a name such as yolo11n")
        return value

    @field_validator("selection_weather")
    @classmethod
    def _known_weather(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for text in values:
            try:
                parse_weather(text)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return values

    @model_validator(mode="after")
    def _one_change(self) -> Self:
        if self.weather is not None and self.albumentations is not None:
            raise ValueError("give 'weather' or 'albumentations', not both")
        return self

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.epochs:
            return self
        if self.batch_norm == "reestimated":
            raise ValueError(
                "with epochs 0 batch_norm 'reestimated' would change what the head has just learned on; take "
                "'adapted', which comes before, or give epochs"
            )
        if not self.head_epochs and self.batch_norm != "adapted":
            raise ValueError(
                "with epochs 0 nothing would change; give head_epochs (the head alone), batch_norm 'adapted' (AdaBN "
                "alone), or epochs"
            )
        idle = {
            "replay": self.replay is not None,
            "distill": self.distill > 0,
            "l2_sp": self.l2_sp > 0,
            "layer_decay": self.layer_decay < 1,
            "freeze": self.freeze > 0,
            "repeat_threshold": self.repeat_threshold > 0,
            "small_object_crops": self.small_object_crops > 0,
            "albumentations": self.albumentations is not None,
            "patience": self.patience > 0,
            "trackers": bool(self.trackers),
            f"optimizer {self.optimizer}": self.optimizer != "AdamW",  # which the head's phase always takes
        }
        unused = [name for name, given in idle.items() if given]
        if unused:
            raise ValueError(f"with epochs 0 {', '.join(unused)} would do nothing; leave it out, or give epochs")
        return self

    @model_validator(mode="after")
    def _nothing_reads_labels(self) -> Self:
        if self.labels == "teacher":
            for name, given in (
                ("selection_split", self.selection_split is not None),
                ("wise_ft", self.wise_ft == "select"),
                ("head_epochs", self.head_epochs > 0),
                ("repeat_threshold", self.repeat_threshold > 0),
                ("small_object_crops", self.small_object_crops > 0),
                # A mosaic of both would hold objects that nobody labelled.
                ("mosaic", self.mosaic > 0 and self.replay is not None),
            ):
                if given:
                    remedy = "a fixed share" if name == "wise_ft" else "null" if name == "selection_split" else "0"
                    raise ValueError(f"with labels 'teacher' no label is read, so {name!r} must be {remedy}")
        return self

    @property
    def idle_patience(self) -> str | None:
        """Why ``patience`` would do nothing, with the remedy; None if it does what it says, or is off.

        It is no error of its own: a run in which nothing came to choose the epoch keeps its settings so.
        """
        if not self.patience or self.selection_split is not None:
            return None
        return (
            f"patience is {self.patience}, but selection_split is null, so that no epoch is measured and nothing tells "
            "a gain; name a selection_split, or set patience to 0"
        )

    def selecting_split(self, splits: Mapping[str, int]) -> str | None:
        """Return the split that chooses the epoch; None where the training pictures choose, or nothing does.

        Args:
            splits: pictures of each split that there is.
        """
        split = self.selection_split
        if split is None or split not in splits:
            return None
        enough = self.wise_ft != "select" or splits[split] >= self.min_selection_pictures
        return split if enough else None

    def choice(self, splits: Mapping[str, int]) -> tuple[str, str] | None:
        """Return the split that chooses, and what it chooses in words; None where no split does.

        Args:
            splits: pictures of each split that there is.
        """
        split = self.selecting_split(splits)
        if split is None:
            return None
        if self.epochs:
            return split, "the epoch"
        if self.wise_ft == "select":
            return split, "the share"
        if self.do_no_harm and splits[split] >= self.min_selection_pictures:
            return split, "whether the start is kept"
        return None

    @property
    def average_share(self) -> float:
        """The share of the run that the moving average reaches back: further where it is the teacher."""
        return 0.1 if self.labels == "used" else 0.5

    @property
    def close_mosaic_epochs(self) -> int:
        """How many epochs at the end run without mosaic: at least one, if the share is not 0."""
        return min(self.epochs, math.ceil(self.epochs * self.close_mosaic_share - 1e-9))

    def accumulation(self, batches: int) -> int:
        """Return over how many batches a step collects gradients.

        Ultralytics collects up to a nominal 64 pictures, which leaves a small dataset a dozen steps. Here it is the
        largest number that stays within those 64 and still gives ``min_optimiser_steps``; at least 1.

        Args:
            batches: batches of one epoch.
        """
        most = min(max(1, NOMINAL_BATCH // self.batch), batches)
        return max(
            (n for n in range(1, most + 1) if self.steps(batches, n) >= self.min_optimiser_steps),
            default=1,
        )

    def steps(self, batches: int, accumulation: int) -> int:
        """Return the optimiser steps of the whole run; each epoch ends with a step."""
        return self.epochs * math.ceil(batches / accumulation)
