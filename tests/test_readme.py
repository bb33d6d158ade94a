"""Every command in the READMEs is one that the command line takes, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from drivetl.cli import app
from drivetl.data import open_dataset

PROJECT = Path(__file__).resolve().parent.parent
READMES = [PROJECT / name / "README.md" for name in (".", "configs", "export")]


def commands() -> list[str]:
    """Return the words after ``drivetl`` in blocks and inline; those with an ellipsis leave something out."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in READMES).replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.S)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))]
    found = [re.match(r"(?:\.venv/bin/)?drivetl (.+)", line.strip()) for line in [*lines, *inline]]
    return sorted({match[1] for match in found if match is not None and "…" not in match[1]})


def parse(command: str) -> None:
    """Parse a command as the command line would, and do nothing."""
    words = shlex.split(command)
    # Typer may bring its own click, so a group is known by what it can do.
    found: Any = typer.main.get_command(app)
    context: Any = None
    while hasattr(found, "get_command"):
        context = found.context_class(found, parent=context, info_name=words[0])
        chosen = found.get_command(context, words.pop(0))
        assert chosen is not None, f"there is no such verb: {command}"
        found = chosen
    found.make_context(command, words, parent=context)


@pytest.mark.parametrize("command", commands())
def test_the_command_line_takes_it(command: str) -> None:
    parse(command)


def test_video_is_given_bundles_because_it_runs_nothing_else() -> None:
    from drivetl.yolo.weights import is_published_name

    shown = [shlex.split(command) for command in commands() if command.startswith("video ")]
    models = [words[at + 1] for words in shown for at, word in enumerate(words) if word in ("--model", "--compare")]
    assert models and not [name for name in models if name.endswith(".pt") or is_published_name(name)]


@pytest.mark.parametrize(
    "wrong", ["bench bundle --nope", "train --data a", "data import kitti", "nonsense x", "data cut"]
)
def test_a_wrong_command_would_be_found(wrong: str) -> None:
    with pytest.raises(Exception, match=r"No such (option|command)|Missing|no such verb"):
        parse(wrong)


def test_import_and_split_work_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("image_2", "label_2"):
        (tmp_path / "kitti" / name).mkdir(parents=True)
    for seed in range(10):
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
        picture = cv2.resize(blocks, (96, 64), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(tmp_path / "kitti" / "image_2" / f"{seed:06}.png"), picture)
        label = "Car 0.00 0 0.0 9.0 9.0 40.0 40.0 1.5 1.6 3.9 1.0 1.0 9.0 0.0\n"
        (tmp_path / "kitti" / "label_2" / f"{seed:06}.txt").write_text(label)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for start in ("data import kitti ~/kitti ", "data split data/kitti "):
        (command,) = [command for command in commands() if command.startswith(start)]
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in shlex.split(command)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
    assert open_dataset(tmp_path / "data" / "split").splits.keys() == {"train", "val", "test"}


def test_there_are_commands() -> None:
    assert len(commands()) > 30


def anchors(path: Path) -> set[str]:
    """Return the anchors of a file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a file that lead to no file, or to no heading of it."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", READMES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert not broken_links(path)


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One: two\n[a](page.md#one-two) [b](page.md#three) [c](nowhere.md)\n", encoding="utf-8")
    assert broken_links(page) == ["page.md#three", "nowhere.md"]
