"""YAML to strict typed models. Every problem is reported at once; nothing unknown is ever applied."""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from drivetl.errors import ConfigError, quoted
from drivetl.files import read_limited

__all__ = ["StrictModel", "load_model", "load_yaml", "parse_model", "set_values"]

_YAML_LIMIT_BYTES = 1 << 20
# What is longer is no number that a float can hold, and Python refuses to print it.
_INTEGER_LIMIT_BITS = 1023
# What PyYAML raises where a value does not fit its tag, such as !!bool maybe or !!float with nothing after it.
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, OverflowError)

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of every configuration model: unknown keys are errors, and true is not the number 1, in a list neither."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_something_else(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would otherwise pass for a number: ``freeze: true`` would freeze one layer."""
        stray = _stray_bool(value, cls.model_fields[info.field_name or ""].annotation)
        if stray is not None:
            raise ValueError(f"must not {'be' if isinstance(value, bool) else 'hold'} {str(stray).lower()}")
        return value


def _stray_bool(value: Any, annotation: Any) -> bool | None:
    """Return a true or false, in containers too, that stands where the annotation has something else."""
    options = _options(annotation)
    if isinstance(value, bool):
        return None if bool in options or Any in options else value
    if not isinstance(value, Mapping | list | tuple | set | frozenset) or Any in options:
        return None
    kinds = (dict, Mapping) if isinstance(value, Mapping) else (list, tuple, set, frozenset, Sequence)
    # What fits one of several containers is right. A model has its own fields checked.
    found = [_stray_in(value, get_args(option)) for option in options if get_origin(option) in kinds]
    return None if None in found or not found else found[0]


def _stray_in(value: Any, parts: tuple[Any, ...]) -> bool | None:
    """Return what `_stray_bool` finds in the keys and values, or the elements, of a container of ``parts``."""
    if all(part in (Any, Ellipsis) for part in parts):  # perhaps a million predictions
        return None
    if isinstance(value, Mapping):
        pairs = [pair for key, entry in value.items() for pair in ((key, parts[0]), (entry, parts[1]))]
    elif len(parts) > 1 and parts[-1] is not Ellipsis:
        pairs = list(zip(value, parts, strict=False))  # of another length, which is told elsewhere
    else:
        pairs = [(element, parts[0]) for element in value]
    strays = (_stray_bool(entry, annotation) for entry, annotation in pairs)
    return next((stray for stray in strays if stray is not None), None)


def _options(annotation: Any) -> list[Any]:
    """Return the members of a union, without what is only said about them."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _options(parts[0])
    if origin in (Union, types.UnionType):
        return [option for part in parts for option in _options(part)]
    return [annotation]


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses duplicate keys (a typo's favourite hiding place), aliases (YAML bombs) and huge numbers.

    Whatever is wrong with a value is a `yaml.YAMLError` that knows its line.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", event.start_mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except _MISFITS as error:
            reason = f"a value does not fit its tag ({quoted(error)})"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from error
        if isinstance(value, int) and value.bit_length() > _INTEGER_LIMIT_BITS:
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):  # a list, a mapping or a set
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of at most 1 MiB, without aliases or duplicate keys.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8, not YAML or not a mapping.
    """
    try:
        text = read_limited(path, _YAML_LIMIT_BYTES).decode("utf-8")
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise ConfigError(f"cannot read {quoted(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{quoted(path)} is not UTF-8 text (byte {error.start})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{quoted(path)} is not YAML that drivetl reads: {_yaml_reason(error)}") from error
    if not isinstance(document, dict) or not all(isinstance(key, str | int) for key in document):
        raise ConfigError(f"{quoted(path)} must hold a mapping of keys to values")
    return document


def train_section(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings under ``train`` of a recipe.

    Raises:
        ConfigError: there is no such section, so that whatever stands there would be ignored, or it is no mapping.
    """
    if "train" not in document:
        shown = ", ".join(quoted(key, 40) for key in list(document)[:5]) or "nothing"
        raise ConfigError(f"{quoted(path)} has no section 'train', only {shown}; put the settings of training below it")
    settings = document["train"]
    if not isinstance(settings, dict):
        raise ConfigError(f"{quoted(path)}: 'train' must hold a mapping of settings")
    return settings


def _yaml_reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = str(getattr(error, "problem", None) or error)
    return f"{reason} (line {mark.line + 1})" if mark is not None else reason


def load_model(model: type[M], path: Path) -> M:
    """Read a YAML file into a strict model.

    Raises:
        ConfigError: with every problem of the file, one a line, each with its key and a suggestion.
    """
    return parse_model(model, load_yaml(path), str(path))


def parse_model(model: type[M], document: dict[str, Any], where: str) -> M:
    """Validate a mapping against a strict model; ``where`` names its origin in the message.

    Raises:
        ConfigError: with every problem at once.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = [_sentence(model, entry) for entry in error.errors()]
        raise ConfigError(f"{quoted(where)}: " + "; ".join(problems)) from error


def _sentence(model: type[BaseModel], entry: Any) -> str:
    location = [part for part in entry["loc"] if isinstance(part, str | int)]
    key = ".".join(str(part) for part in location) or "(the whole file)"
    if entry["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {quoted(key)}, {hint}"
    if entry["type"] == "missing":
        return f"the key {quoted(key)} is missing"
    return f"{quoted(key)} is {quoted(entry['input'], 60)}: {entry['msg'][:1].lower()}{entry['msg'][1:]}"


def _known_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    """Return the keys that the model accepts at a nested location."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            break
        field = current.model_fields.get(str(part))
        if field is not None:
            current = _model_in(field.annotation)
    return list(current.model_fields) if current is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, dict):
        for argument in get_args(annotation):
            if (found := _model_in(argument)) is not None:
                return found
    return None


def set_values(document: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Return a copy of ``document`` with ``key.path=value`` assignments applied; values are read as YAML.

    Raises:
        ConfigError: an assignment has no ``=``, an empty key, a value that is not YAML, or a path through a value.
    """
    result = _copy(document)
    for assignment in assignments:
        path, separator, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise ConfigError(f"--set takes key=value, not {quoted(assignment)}")
        try:
            value = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"--set {quoted(assignment)}: {_yaml_reason(error)}") from error
        place = result
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {quoted(assignment)}: {quoted(key)} holds a value, not keys")
        place[keys[-1]] = value
    return result


def _copy(document: dict[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in document.items()}
