"""The driving taxonomy, and which class names mean the same thing. Standard library only.

Datasets name the same objects differently. Two relations are kept apart, because they license different things:

* a *synonym* is the same class under another name (``pedestrian`` is ``person``): its detections may be scored as
  that class and its classifier row may be copied;
* a *relative* looks alike but is another class (a ``van`` starts well from a ``car`` row): good enough to start
  training from, never enough to rename a detection while its own class is in the dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

__all__ = ["DRIVING_CLASSES", "canonical_name", "look_of", "map_detections", "sources_for"]

DRIVING_CLASSES: tuple[str, ...] = (
    "person",
    "rider",
    "bicycle",
    "motorcycle",
    "car",
    "truck",
    "bus",
    "train",
    "traffic light",
    "traffic sign",
)

# Other spellings -> the name used here. Keys are normalised (see _normalise).
_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        "pedestrian": "person",
        "people": "person",
        "human": "person",
        "bike": "bicycle",
        "pedalcycle": "bicycle",
        "motor": "motorcycle",
        "motorbike": "motorcycle",
        "motorcyle": "motorcycle",
        "automobile": "car",
        "lorry": "truck",
        "coach": "bus",
        "tram": "train",
        "trafficlight": "traffic light",
        "trafficsignal": "traffic light",
        "trafficsign": "traffic sign",
        "stopsign": "stop sign",
    }
)

# Class -> what its classifier row may start from when no class of the same meaning exists. Several names: the mean.
_RELATIVES: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "rider": (("person",),),
        "cyclist": (("person", "bicycle"), ("bicycle",), ("person",)),
        "motorcyclist": (("person", "motorcycle"), ("motorcycle",), ("person",)),
        "personsitting": (("person",),),
        "van": (("car",),),
        "pickup": (("truck",), ("car",)),
        "caravan": (("truck",), ("bus",)),
        "trailer": (("truck",),),
        "constructionvehicle": (("truck",),),
        "emergencyvehicle": (("truck",), ("car",)),
        "othervehicle": (("car", "truck", "bus"), ("car",)),
        "otherperson": (("person",),),
        "vehicle": (("car", "truck", "bus"), ("car",)),
        "traffic sign": (("stop sign",),),
        "stop sign": (("traffic sign",),),
        "train": (("bus",),),
    }
)

# Classes that a detector may read into one and the same object. A rider and a bicycle are two objects in one place.
_LOOKS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("person", "rider", "personsitting", "otherperson"), "person"),
        **dict.fromkeys(("bicycle", "motorcycle"), "two-wheeler"),
        **dict.fromkeys(("car", "truck", "bus", "train", "van", "pickup", "caravan", "trailer", "vehicle"), "vehicle"),
        **dict.fromkeys(("constructionvehicle", "emergencyvehicle", "othervehicle"), "vehicle"),
    }
)


def _normalise(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def canonical_name(name: str) -> str:
    """Return the one spelling under which classes of equal meaning meet (``Pedestrian`` → ``person``)."""
    key = _normalise(name)
    spaced = {_normalise(c): c for c in DRIVING_CLASSES}
    return spaced.get(key) or _SYNONYMS.get(key, key)


def _is_synonym(name: str) -> bool:
    return _normalise(name) != _normalise(canonical_name(name))


def look_of(name: str) -> str:
    """Return what classes of one look share (``truck`` and ``van`` → ``vehicle``); the name itself where none does."""
    return _LOOKS.get(canonical_name(name), canonical_name(name))


def sources_for(target: str, source_names: Iterable[str]) -> tuple[str, ...]:
    """Return the source classes whose classifier rows the class ``target`` may start from.

    An equal meaning wins; otherwise the first group of relatives of which every member exists (its rows are
    averaged). The empty tuple means that nothing fits and the row must be learnt from scratch.
    """
    by_meaning: dict[str, str] = {}
    for name in source_names:
        by_meaning.setdefault(canonical_name(name), name)
    wanted = canonical_name(target)
    if wanted in by_meaning:
        return (by_meaning[wanted],)
    for group in _RELATIVES.get(wanted, ()):
        if all(member in by_meaning for member in group):
            return tuple(by_meaning[member] for member in group)
    return ()


def map_detections(model_names: Sequence[str], dataset_names: Sequence[str]) -> dict[int, int]:
    """Return which dataset class each model class is scored as: ``{model class id: dataset class id}``.

    The very name first, then equal meaning. A dataset class that is still without a counterpart takes a single
    relative that no other dataset class claims (COCO's ``stop sign`` for ``traffic sign``). Model classes that are
    absent from the result have no counterpart in the dataset: their detections are to be dropped and counted.
    """
    by_meaning: dict[str, int] = {}
    # The first name of a meaning has it, but an exact one wins over a synonym that is listed earlier.
    for index in sorted(range(len(dataset_names)), key=lambda index: _is_synonym(dataset_names[index])):
        by_meaning.setdefault(canonical_name(dataset_names[index]), index)
    # A name that the dataset has letter for letter is that class: 'Car' is no other 'car' where the dataset has both.
    exact = {name: index for index, name in enumerate(dataset_names)}
    mapping = {
        index: exact.get(name, by_meaning[canonical_name(name)])
        for index, name in enumerate(model_names)
        if canonical_name(name) in by_meaning
    }
    matched = set(mapping.values())
    for index, name in enumerate(dataset_names):
        if index in matched:
            continue
        source = sources_for(name, model_names)
        if len(source) == 1 and (model_index := list(model_names).index(source[0])) not in mapping:
            mapping[model_index] = index
    return mapping
