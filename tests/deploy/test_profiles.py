"""Hardware profiles: every shipped one loads, and a wrong one says what is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from drivetl.deploy import load_profile
from drivetl.errors import ConfigError
from drivetl.resources import resource_dir

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.stem for path in resource_dir("export/profiles").glob("*.yaml"))
HARDWARE = {"x86-cpu", "rtx-workstation", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "drive-orin"}


def test_the_profiles_are_shipped() -> None:
    assert {*HARDWARE, "template"} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_loads_and_gives_its_sources(name: str) -> None:
    profile = load_profile(name)
    assert profile.notes
    assert all(len(source) > 10 for source in profile.sources.values())


def test_the_template_explains_every_key_and_requires_nothing() -> None:
    text = (resource_dir("export/profiles") / "template.yaml").read_text(encoding="utf-8")
    profile = load_profile("template")
    assert profile.budget_p99_ms is None and profile.memory_mb is None
    lines = text.splitlines()
    for key in ("provider", "precision", "threads", "input_size_hw", "budget_p99_ms", "memory_mb", "sources"):
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        assert lines[index - 1].startswith("#"), key


def _write(tmp_path: Path, **changes: object) -> str:
    document = yaml.safe_load((resource_dir("export/profiles") / "x86-cpu.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"budget_ms": 10}, "unknown key 'budget_ms', did you mean 'budget_p99_ms'"),
        ({"provider": "vulkan"}, "'provider' is 'vulkan'"),
        ({"budget_p99_ms": -1}, "greater than 0"),
        ({"budget_p99_ms": float("inf")}, "finite"),
        ({"threads": 4}, "sources must say where threads comes from"),
        ({"budget_p99_ms": None}, "sources speaks of budget_p99_ms"),
        ({"input_size_hw": [640]}, "input_size_hw"),
    ],
)
def test_a_wrong_profile_is_refused(changes: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_profile(_write(tmp_path, **changes))


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'orin'.*jetson-orin-nx"):
        load_profile("orin")
    with pytest.raises(ConfigError, match="cannot read"):
        load_profile(str(tmp_path / "no.yaml"))


@pytest.mark.parametrize("name", sorted(name for name in HARDWARE if name.startswith("jetson")))
def test_what_a_jetson_needs_is_what_drivetl_needs(name: str) -> None:
    """JetPack 6 brings an older Python than the project allows, and no ONNX Runtime: the profile has to say so."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python = project["requires-python"].removeprefix(">=")
    listed = (PROJECT / "export" / "vehicle" / "requirements.txt").read_text(encoding="utf-8")
    (runtime,) = re.findall(r"It has to be (\d+\.\d+\.\d+) or newer", listed)
    section = (PROJECT / "export" / "README.md").read_text(encoding="utf-8").partition("### On a Jetson\n")[2]
    for text in (load_profile(name).notes, section.partition("\n## ")[0]):
        words = " ".join(text.split())
        assert f"Python {python} or newer" in words and f"ONNX Runtime {runtime} or newer" in words
