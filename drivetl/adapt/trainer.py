"""Ultralytics' detection trainer with the project's rules.

What differs from the base class, and why:

* the model is given, with its head already transferred, and is not rebuilt;
* gradients are collected over a number of batches that is chosen for the size of the dataset, and every epoch ends
  with a step, so that an epoch is a unit from which a run can continue exactly;
* every epoch is seeded from the seed and its number, for the same reason;
* the moving average has a horizon that fits the number of steps (Ultralytics' needs thousands);
* the state is kept in full precision, and nothing is rescued by silence: a loss that is not finite ends the run;
* mixed precision is used without the self-test that downloads a model, and on a CPU that computes in bfloat16 too.
"""

from __future__ import annotations

import json
import math
import random
import time
from copy import deepcopy
from functools import cached_property
from typing import Any

import numpy as np
import torch

from drivetl.adapt.averaging import moving_average, on_cpu
from drivetl.adapt.distillation import DistillationLoss, teacher_of
from drivetl.adapt.guard import OverfitWatch
from drivetl.adapt.job import Job, overrides
from drivetl.adapt.precision import FullPrecisionLoss, cpu_autocast, cpu_computes_bfloat16
from drivetl.adapt.self_training import pseudo_labels
from drivetl.adapt.starting import StartTrainer
from drivetl.adapt.state import RunState, save_state
from drivetl.adapt.statistics import estimate_batch_norm, hold_batch_norm
from drivetl.adapt.trackers import Trackers
from drivetl.adapt.usage import Usage
from drivetl.errors import ConfigError, quoted
from drivetl.yolo.ultra import (
    patched,
    set_threads,
    trainer_module,
    unwrap_model,
)

__all__ = ["AdaptTrainer"]


class AdaptTrainer(StartTrainer):
    """One training run; see the module's docstring.

    Attributes:
        accumulation: batches per optimiser step.
        optimiser_steps: steps made, an earlier part of a resumed run included.
        best_state: state dict (float32, CPU) of the chosen epoch's moving average.
        best_epoch: the chosen epoch, from 0.
        thresholds: of pseudo-labels by class id; None where labels are read.
        watch: what the log says of overfitting.
        usage: pictures a second and memory.
        bfloat16: whether the network runs in bfloat16 on the CPU.
    """

    def __init__(self, job: Job) -> None:
        """Set up the run.

        Raises:
            ConfigError: the device cannot be used.
        """
        self.job = job
        self.accumulation = 1
        self.optimiser_steps = 0
        self.thresholds: dict[int, float] | None = None
        self.best_state: dict[str, torch.Tensor] = {}
        self.best_epoch = -1
        self.watch = OverfitWatch()
        self._batches_in_epoch = 0
        self._started = time.monotonic()
        self.trackers = Trackers(job.config, job.log_path, resumed_epoch=job.state.epoch + 1 if job.state else None)
        super().__init__(overrides=overrides(job))
        self.threads = set_threads(job.config.threads)
        self.usage = Usage(self.device)
        self.bfloat16 = job.config.amp and self.device.type == "cpu" and cpu_computes_bfloat16()
        self.model = job.model
        self._teacher = teacher_of(job.model).to(self.device) if job.config.distill else None
        self.add_callback("on_train_epoch_start", AdaptTrainer._start_epoch)
        self.add_callback("on_train_batch_end", AdaptTrainer._report)
        self.add_callback("on_train_epoch_end", lambda trainer: trainer.usage.stop())

    # Building the run

    def setup_model(self) -> None:
        """Keep the model that was given."""

    def _build_train_pipeline(self) -> None:
        super()._build_train_pipeline()
        # With batches that a full GPU has lowered, Ultralytics would collect them on top of what is collected here.
        self.accumulate = 1
        config = self.job.config.model_copy(update={"batch": self.batch_size})
        self.accumulation = config.accumulation(len(self.train_loader))

    def _setup_train(self) -> None:
        with patched(trainer_module, check_amp=_trust_amp):
            super()._setup_train()
        self.prepare_start()
        if self.bfloat16:
            # oneDNN's bfloat16 convolutions are fastest with the channels last.
            self.model.to(memory_format=torch.channels_last)
        steps = self.job.config.steps(len(self.train_loader), self.accumulation)
        self.ema = moving_average(self.model, steps, self.job.config.average_share)
        # After the average has copied the model: the copy needs no loss, and no teacher in it.
        unwrap_model(self.model).criterion = self._new_criterion()
        if self.job.state is not None:
            self._restore(self.job.state)

    def _restore(self, state: RunState) -> None:
        model = unwrap_model(self.model)
        model.load_state_dict(state.model)
        self.ema.ema.load_state_dict(state.ema)
        self.ema.updates = state.ema_updates
        for saved, group in zip(state.optimizer["param_groups"], self.optimizer.param_groups, strict=True):
            # Which kernel steps is a matter of the device at hand, not of the run.
            saved["fused"] = group.get("fused")
        self.optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)
        self.start_epoch = state.epoch + 1
        self.scheduler.last_epoch = state.epoch
        self.optimiser_steps = state.optimiser_steps
        self.best_state, self.best_epoch = state.best, state.best_epoch
        self.best_fitness = state.best_fitness
        self.stopper.best_fitness = state.best_fitness or 0.0
        self.stopper.best_epoch = state.patience_from
        self._started = time.monotonic() - state.seconds
        for line in self.job.log_path.read_text(encoding="utf-8").splitlines():
            self.watch.add(json.loads(line))
        model.criterion = self._new_criterion(epoch=state.epoch)

    def _new_criterion(self, epoch: int | None = None) -> Any:
        """Return the model's loss; ``epoch`` is the last one that was finished, if any."""
        criterion = unwrap_model(self.model).init_criterion()
        if epoch is not None and hasattr(criterion, "update"):
            # YOLO26 shifts weight between its two heads epoch by epoch.
            criterion.updates = epoch
            criterion.update()
        if self.bfloat16:
            criterion = FullPrecisionLoss(criterion)
        if self._teacher is not None:
            criterion = DistillationLoss(criterion, self._teacher, self.job.config.distill, self.job.known_classes)
        return criterion

    def train(self) -> None:
        """Train; see the module's docstring."""
        with patched(trainer_module, **({"autocast": cpu_autocast} if self.bfloat16 else {})):
            super().train()

    def _model_train(self) -> None:
        super()._model_train()
        if self.job.config.batch_norm in ("frozen", "adapted"):
            hold_batch_norm(unwrap_model(self.model))

    def _do_train(self) -> None:
        """Train; a run that was stopped after its last epoch, before its weights were written, has nothing to train."""
        state = self.job.state
        if self.job.config.epochs and (state is None or not state.finished):
            super()._do_train()
            return
        self._setup_train()
        self.epoch = -1 if state is None else state.epoch
        if state is None:
            self.stop = True
            self.job.log_path.touch()
            self.save_model()
        self.final_eval()
        for loader in (self.train_loader, self.test_loader):
            if hasattr(loader, "close"):
                loader.close()  # as Ultralytics does after the last epoch, so that no worker process stays

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Turn the pictures into tensors, in the memory layout of the network."""
        batch = super().preprocess_batch(batch)
        self.usage.add(len(batch["img"]))
        if "clean" in batch:
            batch["clean"] = batch["clean"].float() / 255
        if self.bfloat16:
            for name in batch.keys() & {"img", "clean"}:
                batch[name] = batch[name].contiguous(memory_format=torch.channels_last)
        if self.thresholds is not None:
            batch.update(self._labelled(batch, self.thresholds))
        return batch

    @cached_property
    def _target_files(self) -> frozenset[str]:
        """The pictures that nobody labelled; the others are of the source."""
        dataset = self.train_loader.dataset
        return frozenset(dataset.im_files[: dataset.targets])

    def _labelled(self, batch: dict[str, Any], thresholds: dict[int, float]) -> dict[str, torch.Tensor]:
        """Return the labels of a batch: the teacher's of target pictures, of source pictures those of their dataset."""
        chosen = [number for number, file in enumerate(batch["im_file"]) if file in self._target_files]
        place = torch.tensor(chosen, dtype=torch.long, device=self.device)
        found = pseudo_labels(self.ema.ema, batch.get("clean", batch["img"])[place], thresholds)
        found["batch_idx"] = place[found["batch_idx"].long()].to(found["batch_idx"].dtype)
        # Of target pictures the loader has no rows: their labels were forgotten.
        joined = {name: torch.cat([batch[name].to(rows), rows]) for name, rows in found.items()}
        order = joined["batch_idx"].argsort(stable=True)
        return {name: rows[order] for name, rows in joined.items()}

    # An epoch

    def _start_epoch(self) -> None:
        """Make the epoch a function of the seed, its number and the state alone."""
        seed = int(np.random.SeedSequence([self.job.config.seed, self.epoch]).generate_state(1)[0])
        # Ultralytics' augmentations draw from these three global generators.
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.train_loader.reset()
        self.train_loader.generator.manual_seed(seed)
        self.train_loader.dataset.start_epoch()
        self._batches_in_epoch = 0
        self.usage.start()

    def optimizer_step(self) -> None:
        """Step after ``accumulation`` batches and after the last one of the epoch."""
        self._batches_in_epoch += 1
        if self._batches_in_epoch % self.accumulation and self._batches_in_epoch < len(self.train_loader):
            return
        if self.anchor is not None:
            group = self.optimizer.param_groups[0]
            self.anchor.pull(unwrap_model(self.model), group["lr"] / group["initial_lr"])
        super().optimizer_step()
        self.optimiser_steps += 1

    def _report(self) -> None:
        batches = len(self.train_loader)
        self.job.progress("training", self.epoch * batches + self._batches_in_epoch, self.epochs * batches)

    def validate(self) -> tuple[dict[str, Any], float | None]:
        """Measure on the selection split, to choose the epoch; no reported figure comes from here."""
        if self.job.config.selection_split is None:
            return {}, None
        metrics, fitness = super().validate()
        return metrics, float(fitness)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """End the run when it has diverged; the state of the epoch before stays."""
        finite = bool(torch.isfinite(self.loss)) and all(
            bool(torch.isfinite(value).all())
            for model in (self.model, self.ema.ema)  # the last step of an epoch may spoil the one alone
            for value in model.state_dict().values()
        )
        if not finite:
            kept = f"the state after epoch {epoch} is kept in" if epoch > self.start_epoch else "nothing was written to"
            # Some GPUs compute wrongly in half precision.
            full = ", or with amp: false" if self.amp else ""
            raise ConfigError(
                f"training diverged in epoch {epoch + 1}: the loss is not finite with lr0 {self.job.config.lr0:g}; "
                f"{kept} {quoted(self.job.state_path.parent)}; start a new run with a smaller --lr0{full}"
            )
        return False

    # What is kept

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Add one line to the log."""
        # With a rate for each layer, Ultralytics would log them all.
        kept = {name: value for name, value in metrics.items() if name not in self._layer_rates}
        if self.job.config.selection_split is None:
            # Where nothing is measured, Ultralytics gives zeros, of which a reader makes figures.
            kept = {name: value for name, value in kept.items() if not name.startswith(("metrics/", "val/"))}
        line: dict[str, float | None] = {name: _plain(value) for name, value in kept.items()}
        done = {"epoch": self.epoch + 1, "seconds": round(self.seconds, 2), "optimiser_steps": self.optimiser_steps}
        self.watch.add(line)
        self.stop |= self.watch.overfitted
        with self.job.log_path.open("a", encoding="utf-8") as log:
            log.write(json.dumps({**done, **self.usage.line(), **line}) + "\n")
        self.trackers.follow()

    def save_model(self) -> bool:
        """Keep the state; remember the epoch if it is the best so far, or the last when nothing selects."""
        if self.job.config.selection_split is None or self.best_epoch < 0 or self.best_fitness == self.fitness:
            self.best_state = on_cpu(self.ema.ema.state_dict())
            self.best_epoch = self.epoch
        save_state(
            RunState(
                model=unwrap_model(self.model).state_dict(),
                ema=self.ema.ema.state_dict(),
                ema_updates=self.ema.updates,
                optimizer=self.optimizer.state_dict(),
                scaler=self.scaler.state_dict(),
                epoch=self.epoch,
                optimiser_steps=self.optimiser_steps,
                best=self.best_state,
                best_epoch=self.best_epoch,
                best_fitness=None if self.best_fitness is None else float(self.best_fitness),
                patience_from=int(self.stopper.best_epoch),
                seconds=self.seconds,
                finished=bool(self.stop),
            ),
            self.job.state_path,
        )
        return True

    @property
    def _layer_rates(self) -> frozenset[str]:
        return frozenset(f"lr/pg{number}" for number in range(3, len(self.optimizer.param_groups)))

    def final_eval(self) -> None:
        """Leave measuring to the evaluation stage."""
        self.trackers.close()

    @property
    def seconds(self) -> float:
        """Wall-clock time since the run began, earlier parts included; it goes on when the training has ended."""
        return time.monotonic() - self._started

    @property
    def precision(self) -> str:
        """What the network is trained in; the loss, the weights and their average are float32 everywhere."""
        if not self.job.config.epochs:
            return "float32"  # as what comes before the first epoch always is
        if self.bfloat16:
            return "bfloat16"
        return "float16" if self.amp else "float32"

    def averaged_model(self, state: dict[str, torch.Tensor] | None = None) -> Any:
        """Return the moving average as a model on the CPU, with the weights of ``state`` if given."""
        # Ultralytics fuses layers through views, which other memory layouts do not allow.
        model = deepcopy(self.ema.ema).cpu().to(memory_format=torch.contiguous_format)
        if state is not None:
            model.load_state_dict(state)
        return model

    def reestimated(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the weights of ``state`` with batch-norm statistics of the target's training pictures."""
        model = self.averaged_model(state).to(self.device)
        estimate_batch_norm(model, (batch["img"] for batch in self.plain_batches()))
        return on_cpu(model.state_dict())


def _trust_amp(model: Any) -> bool:
    return True


def _plain(value: Any) -> float | None:
    """Return a JSON number; JSON has none for NaN, which Ultralytics gives for classes without objects."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None
