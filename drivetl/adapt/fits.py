"""The fits of one run: those that choose the share of the fine-tuned weights, and the one that is kept."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drivetl.adapt.config import TrainConfig
from drivetl.adapt.fitting import Fit, fit
from drivetl.adapt.run_folder import RunFolder
from drivetl.adapt.selection import ClassFigures, Judge, SharePoint, Trial, choose_share, class_mean, difference
from drivetl.data import stratified_folds
from drivetl.data.dataset import Dataset
from drivetl.data.grouping import content_groups
from drivetl.data.records import Sample
from drivetl.errors import BundleError, ConfigError, DatasetError, quoted
from drivetl.files import atomic_file
from drivetl.progress import Progress
from drivetl.weather import parse_weather

__all__ = ["Fits", "training_samples"]


# What a handful of pictures says of a share is mostly noise. Half and half is where Wortsman et al. found mixtures good
# without any choice.
_MOST_ON_FEW = 0.5


class Fits:
    """The fits of one run: those that choose the share, and the one that is kept.

    Attributes:
        notes: sentences about decisions that were taken.
        selection_seconds: what the choice of the share has taken, its fits included.
        pictures: those to train on; None: all.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        folder: RunFolder,
        judge: Judge | None,
        resume: bool,
        progress: Progress,
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._folder = folder
        self._judge = judge
        self._resume = resume
        self._progress = progress
        self.notes: list[str] = []
        self.selection_seconds = 0.0
        self._samples = training_samples(dataset, config)
        self.pictures = None if config.pictures is None else [sample.image for sample in self._samples]

    def fit(self, folder: RunFolder, pictures: Sequence[Path] | None) -> Fit:
        return fit(
            self._config,
            self._dataset,
            folder.place,
            pictures=pictures,
            resume=self._resume,
            progress=self._progress,
        )

    def curve(self, crossed: list[list[Trial]], fitted: Fit) -> tuple[SharePoint, ...]:
        """Return the curve over shares: of the folds if there were any, else on the selection split; empty without."""
        config = self._config
        if not crossed and config.wise_ft == "select" and config.selection_split is not None:
            crossed = [self._trials(fitted, config.selection_split, None)]
        if not crossed:
            return ()
        most = 1.0
        if config.selection_split is None and len(self._samples) < config.min_selection_pictures:
            most = _MOST_ON_FEW
            self.notes.append(
                f"{len(self._samples)} pictures chose the share, fewer than {config.min_selection_pictures}, so it is "
                f"{most:.0%} at most."
            )
            if min(config.wise_ft_shares, default=0.0) > most:
                self.notes.append(
                    f"All of wise_ft_shares are larger than {most:.0%}, so the start is kept; add a smaller one."
                )
        price, weather_share = config.forgetting_price, config.weather_share
        return tuple(choose_share(crossed, config.max_forgetting, price, weather_share=weather_share, most=most))

    def cross_validated(self) -> list[list[Trial]]:
        """Return the trials of each fold of the training pictures; none where a split selects, or nothing does.

        Pictures that belong together are in one fold; see `_groups`.

        Raises:
            PictureError: a training picture cannot be decoded.
        """
        config = self._config
        if config.wise_ft != "select" or config.selection_split is not None:
            return []
        began = time.monotonic()
        groups = _groups(self._samples, list(self._dataset.samples("train")), self._progress)
        self.selection_seconds += time.monotonic() - began
        folds = min(config.selection_folds, len(set(groups)))
        if folds < 2:
            self.notes.append(
                "One group of training pictures cannot say whether a model got better on others, so the start is kept; "
                "set wise_ft to take a fixed share unchecked."
            )
            return []
        counts = [Counter(box.class_name for box in sample.boxes) for sample in self._samples]
        fold_of = stratified_folds(groups, counts, folds, np.random.default_rng(config.seed))
        labelled = {fold for fold, count in zip(fold_of, counts, strict=True) if count}
        if len(labelled) < 2:
            self.notes.append(
                "All labelled objects stand in pictures that belong together, so none can be left out to choose by and "
                "the start is kept; set wise_ft to take a fixed share."
            )
            return []
        return [self._fold(number, folds, fold_of) for number in range(folds)]

    def _fold(self, number: int, folds: int, fold_of: Sequence[int]) -> list[Trial]:
        folder = self._folder.fold(number)
        if self._resume and folder.trials.is_file():
            document = json.loads(folder.trials.read_text(encoding="utf-8"))
            self.selection_seconds += document["seconds"]
            return [Trial.of(entry) for entry in document["trials"]]
        folder.root.mkdir(parents=True, exist_ok=True)
        sides: tuple[list[Path], list[Path]] = ([], [])
        for sample, fold in zip(self._samples, fold_of, strict=True):
            sides[fold == number].append(sample.image)
        inner = Fits(
            self._config,
            self._dataset,
            folder,
            self._judge,
            self._resume,
            _under(f"fold {number + 1} of {folds}", self._progress),
        )
        fitted = inner.fit(folder, sides[0])
        seconds = fitted.trainer.seconds
        trials = inner._trials(fitted, "train", frozenset(sides[1]))
        self.notes += [note for note in inner.notes if note not in self.notes]
        seconds += inner.selection_seconds
        with atomic_file(folder.trials, overwrite=True) as temporary:
            document = {"seconds": seconds, "trials": [trial.document() for trial in trials]}
            temporary.write_text(json.dumps(document), encoding="utf-8")
        self.selection_seconds += seconds
        folder.state.unlink(missing_ok=True)
        return trials

    def _trials(self, fitted: Fit, split: str, pictures: frozenset[Path] | None) -> list[Trial]:
        """Measure the start and every share."""
        config, judge = self._config, self._judge
        if judge is None:
            raise ConfigError("wise_ft 'select' needs a judge")
        shares = [0.0, *sorted(set(config.wise_ft_shares) - {0.0})]
        trials: list[Trial] = []
        began = time.monotonic()
        for done, share in enumerate(shares):
            self._progress("choosing the share", done, len(shares))
            fitted.write(self._folder.candidate, share)
            try:
                target = judge(self._folder.candidate, config.data, split, pictures)
                kept = None
                if config.retention is not None:
                    kept = judge(self._folder.candidate, config.retention, config.retention_split, None)
                weather = {
                    text: judge(self._folder.candidate, config.data, split, pictures, parse_weather(text))
                    for text in config.selection_weather
                }
            except BundleError:
                if not share:
                    raise
                trials.append(_worthless(share, trials[0]))
                self._note_divergence()
            else:
                trials.append(Trial(share, target, kept, weather))
        self._progress("choosing the share", len(shares), len(shares))
        self._folder.candidate.unlink()
        self.selection_seconds += time.monotonic() - began
        return trials

    def harmless(self, fitted: Fit, share: float) -> float:
        """Return a share that was given, or 0 where the weights with it are worse than the start.

        The selection split tells, where there is one that is large enough, else pictures that were trained on: they
        cannot show overfitting, but they show a collapse, and cost seconds where folds would double the time.
        """
        config, judge = self._config, self._judge
        if not config.do_no_harm or judge is None or not share:
            return share
        if config.labels == "teacher":
            self.notes.append("No label is read, so nothing tells whether these weights are better than the start.")
            if config.epochs and config.weather is None and config.albumentations is None:
                self.notes.append(
                    "Without weather teacher and student see the same picture, from which there is little to learn; "
                    "give a section weather."
                )
            return share
        began = time.monotonic()
        split, pictures = config.selection_split, None
        if split is None or self._dataset.splits[split] < config.min_selection_pictures:
            order = np.random.default_rng([config.seed, 0x4A23]).permutation(len(self._samples))
            split = "train"
            pictures = frozenset(self._samples[index].image for index in order[: config.min_selection_pictures])
        self._progress("holding it against the start", 0, 2)
        fitted.write(self._folder.candidate, 0.0)
        before = judge(self._folder.candidate, config.data, split, pictures)
        self._progress("holding it against the start", 1, 2)
        fitted.write(self._folder.candidate, share)
        after: ClassFigures | None
        try:
            after = judge(self._folder.candidate, config.data, split, pictures)
        except BundleError:
            after = None
        self._progress("holding it against the start", 2, 2)
        self._folder.candidate.unlink()
        self.selection_seconds += time.monotonic() - began
        if after is None:
            self._note_divergence()
            self.notes.append("The start was kept.")
            return 0.0
        gain = class_mean([difference(after, before)])
        seen = f"{len(pictures)} of the training pictures" if pictures else f"the split {split!r}"
        if gain < 0:
            self.notes.append(
                f"The start was kept: {share:.0%} of the new weights lose {-100 * gain:.1f} points of mAP50-95 on "
                f"{seen}.{self._remedy}"
            )
            return 0.0
        if pictures:
            self.notes.append(
                f"Held against the start on {seen} alone ({100 * gain:+.1f} points): that shows a collapse, not "
                "overfitting; wise_ft select judges by pictures that were left out."
            )
        return share

    @property
    def _remedy(self) -> str:
        if self._config.epochs:
            return " A smaller lr0, fewer epochs or replay may help."
        return " A smaller lr0 or fewer head_epochs may help." if self._config.head_epochs else ""

    def _note_divergence(self) -> None:
        note = f"With lr0 {self._config.lr0:g} the training diverged: its weights give no finite output; lower lr0."
        if note not in self.notes:
            self.notes.append(note)


def _zeros(figures: ClassFigures) -> ClassFigures:
    return {name: (0.0, boxes) for name, (_, boxes) in figures.items()}


def _worthless(share: float, start: Trial) -> Trial:
    """Return the figures of weights that find nothing."""
    retention = None if start.retention is None else _zeros(start.retention)
    return Trial(share, _zeros(start.target), retention, {name: _zeros(entry) for name, entry in start.weather.items()})


def _groups(samples: Sequence[Sample], split: Sequence[Sample], progress: Progress) -> list[str]:
    """Return the group of each picture: the recorded one, joined by content where a dataset of them records none.

    An import that keeps its source's splits gives every picture a group of its own, and a picture whose twin was
    trained on says nothing of others. A dataset that puts some of its pictures together has been looked through: there,
    comparing would only add its false alarms.

    Args:
        samples: the pictures.
        split: the split that they are of, which tells what is recorded.
        progress: told the comparing.

    Raises:
        PictureError: a picture cannot be decoded.
    """
    sizes = Counter((sample.attributes.get("dataset"), sample.group) for sample in split)
    unrecorded = {dataset for dataset, _ in sizes} - {dataset for (dataset, _), size in sizes.items() if size > 1}
    recorded = [sample.group for sample in samples]
    return content_groups([sample.image for sample in samples], recorded, progress) if unrecorded else recorded


def _under(name: str, progress: Progress) -> Progress:
    def report(label: str, done: int, total: int | None) -> None:
        progress(f"{name}: {label}", done, total)

    return report


def training_samples(dataset: Dataset, config: TrainConfig) -> list[Sample]:
    """Return the pictures to train on: with a smaller number, some of those with a larger.

    Raises:
        ConfigError: there are not so many.
        DatasetError: labels are to be used, and not one object is labelled in them.
    """
    samples = list(dataset.samples("train"))
    if config.pictures is not None:
        if config.pictures > len(samples):
            raise ConfigError(f"pictures is {config.pictures}, but the split 'train' has {len(samples)}")
        order = np.random.default_rng([config.seed, 0x5B5E7]).permutation(len(samples))
        samples = [samples[index] for index in sorted(order[: config.pictures])]
    if config.labels == "used" and not any(sample.boxes for sample in samples):
        raise DatasetError(
            f"no object is labelled in the {len(samples)} pictures of the split 'train' of {quoted(config.data)}, so "
            "there is nothing to learn; check the labels with: drivetl data check, or take --recipe unlabelled"
        )
    return samples
