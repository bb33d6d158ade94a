"""Strict configuration: all problems at once, the nearest key suggested, nothing unknown applied."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from drivetl.config import StrictModel, load_model, load_yaml, parse_model, set_values
from drivetl.errors import ConfigError
from drivetl.weather.mix import WeatherMix


class Inner(StrictModel):
    epochs: int = Field(default=1, ge=1)
    imgsz: int = 640


class Outer(StrictModel):
    name: str
    train: Inner = Inner()


def test_all_problems_at_once_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model(Outer, {"train": {"epoch": 3, "imgsz": "wide", "epochs": 0}}, "recipe.yaml")
    message = str(caught.value)
    assert "recipe.yaml" in message
    assert "'name' is missing" in message
    assert "unknown key 'train.epoch', did you mean 'epochs'?" in message
    assert "'train.imgsz' is 'wide'" in message
    assert "'train.epochs' is '0'" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2\n", "stands twice"),
        ("a: &x [1]\nb: *x\n", "aliases are not accepted"),
        ("a: !!python/object/apply:os.system ['true']\n", "python/object"),
        ("- 1\n- 2\n", "mapping"),
        ("a: [1\n", "line 2"),
        ("? [a]\n: 1\n", "plain value"),
        ("? !!set {a}\n: 1\n", "plain value"),
        ("a: [0x" + "f" * 4000 + "]\n", r"too large \(line 1\)"),
        ("a: " + "9" * 5000 + "\n", r"\(line 1\)"),
        ("a: 1\nb: !!bool maybe\n", r"does not fit its tag \('.*'\) \(line 2\)"),
        ("a: !!float\n", "does not fit its tag"),
        ("a: !!timestamp soon\n", "does not fit its tag"),
        ("a: " + "1:" * 500 + "1.5\n", "does not fit its tag"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        load_yaml(path)


def test_yaml_bytes_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_yaml(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="larger than"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="No such file"):
        load_model(Outer, tmp_path / "missing.yaml")


def test_set_values_reads_yaml_and_leaves_the_original() -> None:
    document = {"train": {"epochs": 5}}
    changed = set_values(document, ["train.epochs=1", "data.source=/a=b", "train.names=[x, y]"])
    assert changed == {"train": {"epochs": 1, "names": ["x", "y"]}, "data": {"source": "/a=b"}}
    assert document == {"train": {"epochs": 5}}


@pytest.mark.parametrize(
    "assignment", ["epochs", "=1", "a..b=1", "train.epochs.x=1", "a=[1", "a=0x_", "a=" + "[" * 9999]
)
def test_set_values_refuses(assignment: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        set_values({"train": {"epochs": 5}}, [assignment])


def test_true_is_no_number() -> None:
    class Settings(StrictModel):
        freeze: int = 0
        rate: float | None = None
        amp: bool = True
        anything: Any = None

    assert parse_model(Settings, {"amp": False, "anything": True}, "x").amp is False
    with pytest.raises(ConfigError, match=r"(?s)freeze.*must not be true.*rate.*must not be false"):
        parse_model(Settings, {"freeze": True, "rate": False}, "x")


class Containers(StrictModel):
    levels: tuple[int, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    shares: list[Annotated[float, Field(ge=0)]] | None = None
    weights: dict[str, float] = Field(default_factory=dict)
    one_or_more: float | list[float] | tuple[bool, str] = 0.0
    nested: list[list[int]] = Field(default_factory=list)
    switches: list[bool] = Field(default_factory=list)
    anything: dict[str, Any] = Field(default_factory=dict)


@pytest.mark.parametrize(
    "values",
    [
        {"levels": [1, True]},
        {"levels": (False,)},
        {"span": [0.0, True]},
        {"shares": [True, 0.5]},
        {"weights": {"fog": True}},
        {"one_or_more": True},
        {"one_or_more": [0.5, True]},
        {"nested": [[1], [True]]},
    ],
)
def test_true_is_no_number_in_a_container_either(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ConfigError, match=f"'{name}' is '.*': value error, must not (be|hold) (true|false)"):
        parse_model(Containers, values, "x")


def test_true_stays_true_where_it_belongs() -> None:
    given: dict[str, Any] = {
        "switches": [True, False],
        "anything": {"a": [True], "b": True},
        "one_or_more": [True, "x"],
        "levels": [1, 0],
        "weights": {"fog": 1},
    }
    model = parse_model(Containers, given, "x")
    assert (model.switches, model.anything, model.one_or_more) == ([True, False], given["anything"], (True, "x"))
    with pytest.raises(ConfigError, match=r"'span\.1' is missing"):  # too short, and no word of true
        parse_model(Containers, {"span": [1]}, "x")


@pytest.mark.parametrize(
    "settings",
    [{"severities": (True,)}, {"conditions": {"fog": True}}],
)
def test_a_mix_of_weather_has_no_true_for_a_number(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must not hold true"):
        WeatherMix(**settings)
