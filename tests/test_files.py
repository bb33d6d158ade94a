"""Outputs are whole or absent, and nothing that stood there before is lost."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetl.errors import ConfigError, DatasetError, OutputError
from drivetl.files import (
    atomic_dir,
    atomic_file,
    expanded,
    files_below,
    git_commit,
    locked_dir,
    locked_file,
    read_limited,
    sha256_file,
    write_json,
)


def test_atomic_file_leaves_nothing_after_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_atomic_file_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(OutputError, match="No space left"), atomic_file(target, overwrite=True):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert target.read_text() == "old"


def test_a_name_that_is_no_utf8_comes_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xbc")
    write_json(tmp_path / "a.json", {"out": name})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert '"caf\\udce9 ü"' in text and json.loads(text) == {"out": name}


def test_existing_file_needs_overwrite(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    write_json(target, {"a": 1})
    with pytest.raises(OutputError, match="--overwrite"):
        write_json(target, {"a": 2})
    write_json(target, {"a": 2}, overwrite=True)
    assert '"a": 2' in target.read_text()


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_not_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out.json"
    if kind == "pipe":
        os.mkfifo(target)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(target))
    else:
        target.symlink_to("/dev/null")
    before = target.lstat()
    with pytest.raises(OutputError, match=r"out\.json' is a device or a pipe, which drivetl does not replace"):
        write_json(target, {}, overwrite=True)
    assert target.lstat() == before and [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_no_option_is_named_that_may_be_another(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for place in (tmp_path / "there", tmp_path / "there" / "below"):
        with pytest.raises(OutputError, match=r"choose another place$"):
            write_json(place, {})


def test_atomic_dir_replaces_only_what_drivetl_made(tmp_path: Path) -> None:
    target = tmp_path / "home"
    target.mkdir()
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not made by drivetl"), atomic_dir(target, marker="m", overwrite=True):
        pass
    assert (target / "thesis.txt").read_text() == "years of work"


def test_atomic_dir_swaps_old_for_new(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for text in ("first", "second"):
        with atomic_dir(target, marker="m", overwrite=True) as folder:
            (folder / "m").write_text(text)
    assert (target / "m").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_atomic_dir_keeps_the_old_folder_after_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with atomic_dir(target, marker="m") as folder:
        (folder / "m").write_text("first")
    with pytest.raises(OutputError, match="No space"), atomic_dir(target, marker="m", overwrite=True) as folder:
        (folder / "m").write_text("second")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (target / "m").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("done", [False, True])
def test_an_interrupted_swap_leaves_a_whole_folder(
    kind: type[BaseException], done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    with atomic_dir(target, marker="m") as folder:
        (folder / "m").write_text("first")
    replace, calls = Path.replace, []

    def interrupted(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) == 2:  # the first takes the old folder away, the second brings the new one
            if done:
                replace(path, to)
            raise kind
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", interrupted)
    wanted = OutputError if kind is OSError else kind
    with pytest.raises(wanted), atomic_dir(target, marker="m", overwrite=True) as folder:
        (folder / "m").write_text("second")
    assert (target / "m").read_text() == ("second" if done else "first")
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_an_old_folder_that_cannot_be_put_back_is_not_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "bundle"
    with atomic_dir(target, marker="m") as folder:
        (folder / "m").write_text("first")
    replace, calls = Path.replace, []

    def gone_after_one(path: Path, to: Path) -> Path:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", gone_after_one)
    with pytest.raises(OutputError), atomic_dir(target, marker="m", overwrite=True) as folder:
        (folder / "m").write_text("second")
    assert [path.read_text() for path in tmp_path.glob(".bundle-old-*/bundle/m")] == ["first"]


def test_a_missing_input_is_not_said_to_be_the_output(tmp_path: Path) -> None:
    for missing in (tmp_path / "in.txt", tmp_path / "out.txt.in"):
        with pytest.raises(FileNotFoundError, match=missing.name), atomic_file(tmp_path / "out.txt") as temporary:
            temporary.write_bytes(missing.read_bytes())
        with pytest.raises(FileNotFoundError, match=missing.name), atomic_dir(tmp_path / "out", marker="m") as folder:
            shutil.copyfile(missing, folder / "copy")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_of_the_output_is_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write '.*out'"), atomic_dir(tmp_path / "out", marker="m") as folder:
        (folder / "no" / "such").write_text("")
    # As shutil says it of a full disk: the source first.
    with pytest.raises(OutputError, match=r"No space left"), atomic_file(tmp_path / "out") as temporary:
        raise OSError(errno.ENOSPC, "No space left on device", "in", None, str(temporary))
    with pytest.raises(OutputError, match=r"cannot write"), atomic_file(tmp_path / "out") as temporary:
        Path(f"{temporary}.d/data").write_text("")  # ONNX keeps large weights beside the file
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_json(tmp_path / "file" / "below.json", {})


def test_read_limited_refuses_what_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="larger than 10"):
        read_limited(path, 10)
    assert read_limited(path, 11) == b"x" * 11


def test_an_unknown_home_is_one_sentence() -> None:
    assert expanded("~/a") == Path.home() / "a" and expanded("a") == Path("a")
    with pytest.raises(ConfigError, match="home folder in DRIVETL_CACHE '~nobody-at-all/w' is not known; write the pa"):
        expanded("~nobody-at-all/w", "DRIVETL_CACHE")


def test_sha256_of_the_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"")
    assert sha256_file(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_commit_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    (repository / "folder").mkdir(parents=True)

    def git(*words: str) -> str:
        command = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    monkeypatch.chdir(repository / "folder")
    assert git_commit() is None
    git("commit", "-q", "--allow-empty", "-m", "begin")
    assert git_commit() == git("rev-parse", "HEAD")
    git("pack-refs", "--all")
    assert git_commit() == git("rev-parse", "HEAD")
    git("worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    git("commit", "-q", "--allow-empty", "-m", "go on")
    monkeypatch.chdir(tmp_path / "other")
    assert git_commit() == git("rev-parse", "other") != git("rev-parse", "HEAD")
    git("checkout", "-q", "--detach")
    monkeypatch.chdir(repository)
    assert git_commit() == git("rev-parse", "HEAD")
    (repository / ".git" / "HEAD").unlink()
    assert git_commit() is None


def test_files_below_enter_links_and_come_out_of_circles(tmp_path: Path) -> None:
    for name in ("set/a/1.jpg", "set/2.jpg", "elsewhere/deep/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/again").symlink_to(tmp_path / "elsewhere")  # another name of the same is no circle
    (tmp_path / "set/a/up").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set/a")
    (tmp_path / "set/gone").symlink_to(tmp_path / "nowhere")
    found = [path.relative_to(tmp_path / "set").as_posix() for path in files_below(tmp_path / "set")]
    there = ["2.jpg", "a/1.jpg", "again/back/1.jpg", "again/deep/3.jpg", "gone", "more/back/1.jpg", "more/deep/3.jpg"]
    assert found == there


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "shut").mkdir()
    listed = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:  # root, who runs the tests in a container, may read everything
        if folder.name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError, match=r"cannot read the folder '.*shut': Permission denied; make it readable"):
        files_below(tmp_path)


def test_a_locked_folder_is_kept_until_its_process_ends_however_it_ends(tmp_path: Path) -> None:
    """Also where that process has forked: what it left behind holds nothing."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from drivetl.files import locked_dir\n"
        f"with locked_dir(Path({str(tmp_path)!r})):\n"
        "    pid = os.fork()\n"
        "    if not pid: print(os.getpid(), flush=True)  # it has let go by now\n"
        "    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    forked = int(holder.stdout.readline())
    try:
        with pytest.raises(OutputError, match=r"another process is at work in .*; wait for it"), locked_dir(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with locked_dir(tmp_path):
            assert list(tmp_path.iterdir()) == []
    finally:
        os.kill(forked, 9)
        holder.kill()
        holder.stdout.close()


def test_a_locked_file_is_the_one_that_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.part"
    with locked_file(path, "busy; wait"):
        with pytest.raises(OutputError, match=r"^busy; wait$"), locked_file(path, "busy; wait"):
            pass
        assert path.read_bytes() == b""
    with locked_file(path, "busy"):
        path.replace(tmp_path / "f")
        with locked_file(path, "busy"):  # another file by now
            pass
    flock, calls = fcntl.flock, []

    def slow(descriptor: int, how: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:  # whoever held it until now has just taken it away
            path.unlink()
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", slow)
    with locked_file(path, "busy"):
        assert len(calls) == 2 and path.is_file()


def test_where_there_are_no_locks_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked_dir(tmp_path), locked_dir(tmp_path):
        pass
    with locked_file(tmp_path / "f", "busy"), locked_file(tmp_path / "f", "busy"):
        pass
