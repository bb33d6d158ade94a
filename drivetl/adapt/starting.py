"""What a training run is made of before its first epoch: pictures, loader, optimiser, and the prepared start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from drivetl.adapt.anchoring import Anchor, decay_by_layer
from drivetl.adapt.head_phase import train_head
from drivetl.adapt.job import Job
from drivetl.adapt.loading import set_batches
from drivetl.adapt.pictures import picture_change
from drivetl.adapt.self_training import class_thresholds
from drivetl.adapt.statistics import estimate_batch_norm
from drivetl.yolo.dataset import ReadOnlyDataset
from drivetl.yolo.ultra import DetectionTrainer, build_module, patched, unwrap_model

__all__ = ["StartTrainer"]


class StartTrainer(DetectionTrainer):  # type: ignore[misc]
    """Ultralytics' trainer with the project's pictures, batches and learning rates.

    Attributes:
        job: what the run works with.
        optimiser_steps: steps made, those of the head phase included.
        anchor: the pull towards the start; None without one.
        thresholds: of pseudo-labels by class id; None where labels are read.
    """

    job: Job
    optimiser_steps: int = 0
    anchor: Anchor | None = None
    thresholds: dict[int, float] | None = None

    def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> ReadOnlyDataset:
        """Build Ultralytics' dataset as it would, in the variant that leaves the files alone and changes pictures."""
        used = self.job.config.labels == "used"
        with patched(build_module, YOLODataset=ReadOnlyDataset), patched(ReadOnlyDataset, wants_labels=used):
            dataset: ReadOnlyDataset = super().build_dataset(img_path, mode, batch)
            if not used:
                dataset.forget_labels()
            if mode == "train" and self.job.replay is not None:
                names = dict(enumerate(self.job.replay.names))
                with patched(self, data={**self.data, "names": names, "nc": len(names)}):
                    dataset.absorb(
                        super().build_dataset(self.job.replay.pictures, mode, batch), self.job.replay.class_ids
                    )
        if mode == "train":
            dataset.small_object_crops = self.job.config.small_object_crops
            dataset.change = picture_change(self.job.config)
            if (self.job.config.distill or not used) and dataset.change is not None:
                dataset.pair()
        return dataset

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Build Ultralytics' loader; in training with replay and repeats where the settings want them."""
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode == "train":
            set_batches(loader, self.job.config, batch_size)
        return loader

    def build_optimizer(self, model: Any, *arguments: Any, **named: Any) -> Any:
        """Build the optimiser as Ultralytics does, then set the learning rate of each layer."""
        optimizer = super().build_optimizer(model, *arguments, **named)
        if self.job.config.layer_decay < 1:
            decay_by_layer(optimizer, unwrap_model(model), self.job.config.layer_decay)
        return optimizer

    def prepare_start(self) -> None:
        """Do what comes before the first epoch. A resumed run has it in its state, all but the anchor."""
        config, model = self.job.config, unwrap_model(self.model)
        self.anchor = Anchor(model, config.l2_sp, self.job.untrained) if config.l2_sp else None
        if config.labels == "teacher" and config.epochs:
            pictures = (batch["img"] for batch in self.plain_batches())
            self.thresholds = class_thresholds(deepcopy(model).eval(), pictures, self.job.known_classes)
        if self.job.state is not None:
            return
        if config.batch_norm == "adapted":
            estimate_batch_norm(model, (batch["img"] for batch in self.plain_batches()))
        if config.head_epochs:
            self.optimiser_steps = train_head(
                model,
                self.plain_batches(),
                math.ceil(self.train_loader.dataset.targets / self.batch_size),
                model.init_criterion(),
                self.job.scratch,
                config,
                self.job.progress,
            )

    def plain_batches(self) -> Iterator[dict[str, Any]]:
        """Yield the target's training pictures once, as they are measured: without any augmentation."""
        with patched(self.args, workers=0):
            loader = self.get_dataloader(self.data["train"], self.batch_size, -1, "val")
        for batch in loader:
            yield super().preprocess_batch(batch)
