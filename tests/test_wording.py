"""Messages that a newcomer stumbled over: each says what it is and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from drivetl.adapt.config import TrainConfig
from drivetl.cli import app
from drivetl.config import StrictModel, parse_model
from drivetl.errors import BundleError, ConfigError, ImageError, WeightsError
from drivetl.runtime import open_bundle
from drivetl.weather import parse_weather
from drivetl.wording import counted
from drivetl.yolo import load_checkpoint


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (1, "box", "1 box"),
        (0, "box", "0 boxes"),
        (2, "optimiser step", "2 optimiser steps"),
        (1, "epoch", "1 epoch"),
        (1234567, "held-out picture", "1234567 held-out pictures"),
    ],
)
def test_number_and_noun_agree(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


@pytest.mark.parametrize(
    ("name", "kind"), [("a.pt", "a file of weights"), ("a.onnx", "an ONNX file"), ("README.md", "a file")]
)
def test_a_file_in_place_of_a_bundle_is_called_what_it_is(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(BundleError, match=f"{name}' is {kind}, not a bundle folder; make one with"):
        open_bundle(tmp_path / name)


def test_what_fits_none_of_several_kinds_is_one_sentence_in_the_words_of_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_model(TrainConfig, {"data": ".", "weights": "w", "wise_ft": 50.0}, "r.yaml")
    assert str(caught.value) == (
        "'r.yaml': 'wise_ft' is '50.0': input should be less than or equal to 1, or input should be 'select'"
    )


def test_keys_below_such_a_value_keep_their_names() -> None:
    class Inner(StrictModel):
        size: int = 1

    class Outer(StrictModel):
        one: Inner | Literal["off"] = "off"
        many: dict[str, float] = Field(default_factory=dict)

    for document, words in (
        ({"one": {"sise": 1}}, r"unknown key 'one\.sise', did you mean 'size'\?"),
        ({"one": {"size": "x"}, "many": {"fog": "y"}}, r"'one\.size' is 'x'.*'many\.fog' is 'y'"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_model(Outer, document, "r.yaml")


def test_weather_that_does_not_exist_reads_well_behind_an_option() -> None:
    with pytest.raises(ConfigError, match=r"^'mist' is no weather condition; known: .*fog"):
        parse_weather("mist:3")


def test_a_training_recipe_is_sent_to_the_verb_that_takes_it() -> None:
    with pytest.raises(ConfigError, match=r"is a training recipe: .*drivetl train --recipe .*adapt\.yaml --data"):
        CliRunner().invoke(app, ["run", "adapt"], catch_exceptions=False)


@pytest.mark.parametrize("words", [("weather", "preview", "nix.jpg", "--out"), ("bench", "b", "--image", "nix.jpg")])
def test_a_missing_picture_of_the_command_line_is_no_matter_of_importing(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    given = [*words, str(tmp_path / "o.png")] if words[-1] == "--out" else list(words)
    with pytest.raises(ImageError, match=r"the picture 'nix\.jpg' does not exist; correct the path$"):
        CliRunner().invoke(app, given, catch_exceptions=False)


def test_a_file_that_is_no_checkpoint_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"hello, world")
    with pytest.raises(WeightsError, match=r"is not a checkpoint .*; give the \.pt file that training wrote"):
        load_checkpoint(tmp_path / "a.pt")
