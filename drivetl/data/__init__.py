"""Dataset files → `Sample` records in one driving taxonomy → a YOLO-layout dataset with its conditions.

::

    readers/        one file a published format            cards.py     datasets/*.yaml, typed
    importing.py    source files → dataset                 dataset.py   open any dataset, stream its samples
    layout.py       what a dataset looks like on disk      checking.py  what would spoil training
    shared.py       pictures that stand in two splits
    splitting.py, folding.py, merging.py, stats.py, getting.py         the other verbs of `drivetl data`
    download.py     a resumable download of one file; `drivetl weights get` uses it too
"""

from __future__ import annotations

from drivetl.data.cards import DatasetCard, known_cards, load_card
from drivetl.data.checking import CheckReport, Problem, check_dataset
from drivetl.data.dataset import Dataset, leave_out, open_dataset
from drivetl.data.download import fetch
from drivetl.data.folding import fold_dataset, stratified_folds
from drivetl.data.getting import GetResult, data_cache, get_dataset
from drivetl.data.importing import ImportResult, import_dataset
from drivetl.data.merging import HELD_OUT, MergeResult, merge_datasets
from drivetl.data.records import Attribute, Box, IgnoreRegion, Sample, Xyxy
from drivetl.data.splitting import move_listed, split_dataset
from drivetl.data.stats import DatasetStats, dataset_stats, draw_stats

__all__ = [
    "HELD_OUT",
    "Attribute",
    "Box",
    "CheckReport",
    "Dataset",
    "DatasetCard",
    "DatasetStats",
    "GetResult",
    "IgnoreRegion",
    "ImportResult",
    "MergeResult",
    "Problem",
    "Sample",
    "Xyxy",
    "check_dataset",
    "data_cache",
    "dataset_stats",
    "draw_stats",
    "fetch",
    "fold_dataset",
    "get_dataset",
    "import_dataset",
    "known_cards",
    "leave_out",
    "load_card",
    "merge_datasets",
    "move_listed",
    "open_dataset",
    "split_dataset",
    "stratified_folds",
]
