"""From a published dataset's own files to a dataset in one driving taxonomy."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from drivetl.data.cards import DROP, ClassMap, DatasetCard, class_map, load_card, names_from
from drivetl.data.clipping import Clipping, clipping_notes
from drivetl.data.dataset import Dataset
from drivetl.data.grouping import content_groups, take_groups
from drivetl.data.layout import MARKER, LinkMode, Origin, counts_of, refuse_nesting, write_dataset
from drivetl.data.readers import Reading, Request, reader_for
from drivetl.data.readers.common import standard_split
from drivetl.data.recordings import NameGroups, named_groups
from drivetl.data.records import Attribute, Box, IgnoreRegion, Sample, Xyxy
from drivetl.data.sample_lines import rounded
from drivetl.data.shared import shared_notes
from drivetl.data.text import plain
from drivetl.errors import ConfigError, DatasetError, quoted
from drivetl.files import refuse_existing_dir
from drivetl.progress import Progress, silent, tracked

__all__ = ["ImportResult", "import_dataset", "standard_split"]


@dataclasses.dataclass(frozen=True)
class ImportResult:
    """What an import wrote. ``ignored`` counts ignore regions, ``dropped`` boxes of native classes left out."""

    path: Path
    images: int
    boxes: int
    per_class: dict[str, int]
    ignored: int
    dropped: dict[str, int]
    splits: dict[str, int]
    names: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...]


def import_dataset(  # noqa: PLR0913 - the options of one verb, all by keyword
    format: str,
    source: Path,
    out: Path,
    *,
    card: str | Path | None = None,
    classes: str = "driving",
    names: str | Path | None = None,
    split_names: Mapping[str, str] | None = None,
    val: float | None = None,
    test: float | None = None,
    seed: int = 0,
    link: LinkMode = "symlink",
    overwrite: bool = False,
    progress: Progress = silent,
) -> ImportResult:
    """Read ``source`` in its own ``format`` and write a dataset to ``out``. The source is never changed.

    The source's own splits are kept. Where it has none (KITTI), whole groups are drawn for ``val`` and ``test``: the
    source's sequences, or else sets of near-identical pictures.

    Args:
        format: a key of `drivetl.data.readers.READERS`.
        source: the dataset's folder as published, or its label file.
        out: the new dataset folder.
        card: a shipped card's name or a card file; the format's own card by default.
        classes: ``driving`` maps to the taxonomy, ``native`` keeps the source's classes.
        names: class names for a YOLO layout without data.yaml; see `drivetl.data.cards.names_from`.
        split_names: source split to dataset split, such as ``{"val": "test"}``; unnamed splits keep their name.
        val: share of pictures for ``val`` where the source has no splits, 0 to 0.9; None: a fifth.
        test: the same for ``test``; None: none.
        seed: decides which groups are drawn.
        link: ``symlink`` to the source's pictures, or ``copy``.
        overwrite: replace a dataset that stands at ``out``.
        progress: told about reading and writing.

    Raises:
        DatasetError: unknown format, or the source does not fit it.
        ConfigError: the card or an option does not fit.
        OutputError: ``out`` cannot be written, or is the source or holds it.
    """
    read = reader_for(format)
    chosen = _card_for(format, source, card)
    refuse_nesting(source, out, may_lie_in=True)
    refuse_existing_dir(out, marker=MARKER, overwrite=overwrite)
    by_hand = names_from(names) if names is not None else None
    reading = read(Request(source, chosen, by_hand, frozenset(split_names or ())))
    mapping = class_map(chosen, classes, reading.class_names)
    converter = _Converter(mapping)
    samples = [converter.converted(s) for s in tracked(reading.samples, "reading", reading.total, progress)]
    if not samples:
        raise DatasetError(f"{quoted(source)} has no labelled pictures in the format {format}")
    samples, split_notes = _with_splits(samples, reading, split_names or {}, (val, test, seed), progress)
    class_names = _kept_classes(samples, reading, mapping, source)
    ignored = sum(len(sample.ignore) for sample in samples)
    origin = Origin(format, chosen.name, classes, ignored, dict(sorted(converter.dropped.items())))
    dataset = write_dataset(out, samples, class_names, origin, link=link, overwrite=overwrite, progress=progress)
    notes = [*reading.notes, *split_notes, *converter.notes(), *_missing_split_notes(dataset.splits, reading)]
    return _result(out, dataset, samples, class_names, origin, notes)


def _result(
    out: Path,
    dataset: Dataset,
    samples: Sequence[Sample],
    class_names: tuple[str, ...],
    origin: Origin,
    notes: Sequence[str],
) -> ImportResult:
    splits, per_class = counts_of(samples, class_names)
    return ImportResult(
        out,
        len(samples),
        sum(per_class.values()),
        per_class,
        origin.ignored,
        dict(origin.dropped),
        splits,
        class_names,
        dataset.fingerprint,
        tuple(notes),
    )


def _card_for(format: str, source: Path, card: str | Path | None) -> DatasetCard:
    """Return the card, checked against the format, once the source is seen to be there."""
    chosen = load_card(card if card is not None else format)
    formats = {chosen.format, chosen.download.format if chosen.download else chosen.format}
    if format not in formats:
        raise ConfigError(
            f"the card {quoted(chosen.name)} is for the format {' or '.join(sorted(formats))}, not {quoted(format)}; "
            "pass another --card"
        )
    if not source.exists():
        raise DatasetError(f"there is no {quoted(source)}; give the folder of the {chosen.title} files")
    return chosen


def _kept_classes(samples: Sequence[Sample], reading: Reading, mapping: ClassMap, source: Path) -> tuple[str, ...]:
    boxed = {box.class_name for sample in samples for box in sample.boxes}
    if reading.unlabelled:  # what the pictures may show
        targets = {mapping.target(name) for name in reading.class_names or ()}
        boxed = {name for name in targets if name is not None and name != DROP}
    if not mapping.names(boxed):
        raise DatasetError(
            f"{quoted(source)} has no box of a class that its card keeps; edit a card and pass it with --card"
        )
    # A class that is only ever a crowd, or too difficult to label, is one all the same: its regions bear its name.
    regions = {region.class_name for sample in samples for region in sample.ignore if region.class_name is not None}
    return mapping.names(boxed | regions)


class _Converter:
    """Maps classes, clips boxes to the picture, and counts what it could not keep."""

    def __init__(self, mapping: ClassMap) -> None:
        self._mapping = mapping
        self.dropped: Counter[str] = Counter()
        self._clipping = Clipping()
        self._duplicates = 0

    def converted(self, sample: Sample) -> Sample:
        boxes: dict[tuple[str, Xyxy], Box] = {}
        ignore: list[IgnoreRegion] = []
        for box in sample.boxes:
            target = self._mapping.target(box.class_name)
            if target == DROP:
                self.dropped[plain(box.class_name)] += 1
                continue
            xyxy_px = self._inside(box.xyxy_px, sample)
            if xyxy_px is None:
                continue
            if target is None:
                ignore.append(IgnoreRegion(xyxy_px))
            elif (target, xyxy_px) in boxes:
                self._duplicates += 1
            else:
                boxes[target, xyxy_px] = Box(target, xyxy_px, _plain_values(box.attributes))
        for region in sample.ignore:
            target = None if region.class_name is None else self._mapping.target(region.class_name)
            xyxy_px = None if target == DROP else self._inside(region.xyxy_px, sample)
            if xyxy_px is not None:
                ignore.append(IgnoreRegion(xyxy_px, target))
        return dataclasses.replace(
            sample,
            group=plain(sample.group),
            boxes=tuple(boxes.values()),
            ignore=tuple(ignore),
            attributes=_plain_values(sample.attributes),
        )

    def notes(self) -> list[str]:
        found = clipping_notes([self._clipping])
        if self._duplicates:
            found.append(f"{self._duplicates} boxes that repeated another of the same class exactly were left out.")
        if self.dropped:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(self.dropped.items()))
            found.append(
                f"Dropped, because the card {quoted(self._mapping.card_name)} keeps no class for them: {counts}."
            )
        return found

    def _inside(self, xyxy_px: Xyxy, sample: Sample) -> Xyxy | None:
        inside = self._clipping.inside(xyxy_px, sample.image, sample.size_hw)
        return None if inside is None else rounded(inside)


def _plain_values(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {plain(key): plain(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _with_splits(
    samples: list[Sample],
    reading: Reading,
    split_names: Mapping[str, str],
    drawn: tuple[float | None, float | None, int],
    progress: Progress,
) -> tuple[list[Sample], list[str]]:
    """Give every sample its split and group; return them with notes on what was decided."""
    found = {sample.split for sample in samples}
    if "" in found and len(found) > 1:
        known = ", ".join(sorted(found - {""}))
        raise DatasetError(f"some pictures have a split ({known}) and some have none; import the two parts separately")
    if found == {""}:
        if split_names:
            raise ConfigError("the source has no splits, so --split-names has nothing to rename; use --val and --test")
        return _drawn(samples, _named_groups(samples, reading), drawn, progress)
    if unknown := split_names.keys() - found - {standard_split(name) for name in found}:
        raise ConfigError(f"--split-names names {quoted(min(unknown))}, but the source has {', '.join(sorted(found))}")
    renamed = {
        name: split_names.get(name) or split_names.get(standard_split(name)) or standard_split(name) for name in found
    }
    notes = [
        f"The source's split {quoted(old)} is {quoted(new)} here." for old, new in sorted(renamed.items()) if old != new
    ]
    # A share of nothing is no contradiction: nothing is drawn. No error, because recipes say it of every source.
    if asked := [f"{option} {share}" for option, share in zip(("--val", "--test"), drawn, strict=False) if share]:
        notes.append(
            f"{' and '.join(asked)} drew nothing, because the source has splits of its own "
            f"({', '.join(sorted(found))}); cut further ones with: drivetl data split"
        )
    named = _named_groups(samples, reading)
    result = [
        dataclasses.replace(sample, split=renamed[sample.split], group=group)
        for sample, group in zip(samples, named.groups, strict=True)
    ]
    return result, [*notes, *named.notes, *shared_notes(result)]


def _named_groups(samples: Sequence[Sample], reading: Reading) -> NameGroups:
    """Return the group that the source gives each picture, or else its name does."""
    own = [index for index, sample in enumerate(samples) if not sample.group]
    pictures = [samples[index].image.absolute() for index in own]
    named = named_groups(pictures, [samples[index].split for index in own], by_folder=reading.by_folder)
    groups = [sample.group for sample in samples]
    for index, group in zip(own, named.groups, strict=True):
        groups[index] = group
    return NameGroups(groups, named.notes)


def _drawn(
    samples: Sequence[Sample],
    named: NameGroups,
    drawn: tuple[float | None, float | None, int],
    progress: Progress,
) -> tuple[list[Sample], list[str]]:
    val, test, seed = 0.2 if drawn[0] is None else drawn[0], drawn[1] or 0.0, drawn[2]
    if not (0 <= val <= 0.9 and 0 <= test <= 0.9 and val + test <= 0.9):
        raise ConfigError(
            f"--val {val} and --test {test} must each be 0 to 0.9 and leave a tenth of the pictures to train on"
        )
    groups, how = named.groups, "sequence"
    if not all(sample.group for sample in samples):
        how = "set of near-identical pictures"
        groups = content_groups([sample.image for sample in samples], groups, progress)
    counts = [Counter(box.class_name for box in sample.boxes) for sample in samples]
    rng = np.random.default_rng(seed)
    in_val = take_groups(groups, counts, val, rng)
    rest = [index for index, group in enumerate(groups) if group not in in_val]
    share = test * len(groups) / len(rest) if rest else 0.0
    in_test = take_groups([groups[i] for i in rest], [counts[i] for i in rest], share, rng)
    split_of = {**dict.fromkeys(in_val, "val"), **dict.fromkeys(in_test, "test")}
    result = [
        dataclasses.replace(sample, split=split_of.get(group, "train"), group=group)
        for sample, group in zip(samples, groups, strict=True)
    ]
    notes = [f"The source has no splits; drawn with seed {seed}, never dividing a {how}.", *named.notes]
    for name, wanted, taken in (("val", val, in_val), ("test", test, in_test)):
        if wanted and not taken:
            notes.append(
                f"Nothing could be drawn for {name!r}: each of the {len(set(groups))} groups is more than "
                f"{wanted:.0%} of the pictures, or holds too many boxes of a class; give --{name} a larger share."
            )
    return result, notes


def _missing_split_notes(splits: Mapping[str, int], reading: Reading) -> list[str]:
    if reading.unlabelled:  # nothing could be measured on a split
        return []
    without = {
        "train": "There is no split 'train', which training needs",
        "val": "There is no split 'val', so training takes its last epoch, and what its recipe chooses by pictures it "
        "chooses by folds of its own",
    }
    return [f"{note}; cut one with: drivetl data split" for split, note in without.items() if split not in splits]
