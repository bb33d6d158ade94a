"""Outputs are written whole or not at all. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drivetl.errors import ConfigError, DatasetError, OutputError, encodable, quoted

__all__ = [
    "atomic_dir",
    "atomic_file",
    "expanded",
    "files_below",
    "git_commit",
    "json_bytes",
    "locked_dir",
    "locked_file",
    "read_limited",
    "refuse_existing_dir",
    "sha256_file",
    "write_json",
    "writing",
]

_CHUNK = 1 << 20

# Descriptors that hold a lock of this process.
_locks: set[int] = set()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def expanded(path: str | Path, variable: str = "") -> Path:
    """Return the path with a leading ``~`` or ``~name`` replaced by that user's home folder.

    ``variable`` names the environment variable that it came from, for the message.

    Raises:
        ConfigError: nobody knows such a user, or where the own home is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        where = f"{variable} {quoted(path)}".strip()
        raise ConfigError(f"the home folder in {where} is not known; write the path out") from error


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, in the order of their paths; linked folders are entered, in a circle once.

    Raises:
        DatasetError: a folder may not be read; pictures left out in silence would change every figure.
    """
    found: list[Path] = []
    waiting = [(folder, frozenset[Path]())]
    while waiting:
        place, through = waiting.pop()
        through |= {place.resolve()}
        try:
            for entry in place.iterdir():
                if not entry.is_dir():
                    found.append(entry)
                elif entry.resolve() not in through:
                    waiting.append((entry, through))
        except PermissionError as error:
            raise DatasetError(
                f"cannot read the folder {quoted(place)}: {error.strerror or error}; make it readable or leave it out"
            ) from error
    return sorted(found)


def git_commit() -> str | None:
    """Return the commit that the working directory stands at, read from ``.git``; None outside a repository."""
    here = Path.cwd()
    place = next((folder / ".git" for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    if place is None:
        return None
    try:
        if place.is_file():  # a worktree
            place = place.parent / place.read_text(encoding="utf-8").removeprefix("gitdir: ").strip()
        head = (place / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        return _git_reference(place, head.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return None


def _git_reference(place: Path, name: str) -> str | None:
    shared = place / "commondir"
    common = place / shared.read_text(encoding="utf-8").strip() if shared.is_file() else place
    if (common / name).is_file():
        return (common / name).read_text(encoding="utf-8").strip()
    packed = common / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)


def json_bytes(document: Any) -> bytes:
    """Return a JSON document as UTF-8 with stable formatting; NaN and infinity are refused (ValueError).

    Bytes of a file name that are no UTF-8 become escapes of JSON, from which Python's reader gives the name back.
    """
    return encodable(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """Read a file of at most ``limit_bytes``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger; the message gives both sizes.
    """
    with path.open("rb") as handle:
        data = handle.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return data


@contextlib.contextmanager
def writing(target: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn the operating system's refusal to write ``target`` into an `OutputError` with a remedy.

    ``temporary`` stands for the target while a block runs that may read other files too: a refusal that names one of
    those passes as it is. A full disk names no file.

    Raises:
        OutputError: the system refuses to write.
    """
    try:
        yield
    except OSError as error:
        if temporary is not None and _names_another(error, temporary):
            raise
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {quoted(target)}: {reason}; free space or choose another place") from error


def _names_another(error: OSError, temporary: Path) -> bool:
    """Say whether the system named files: neither ``temporary`` nor what lies below it, or has its name and more."""
    # A copy that fails half-way names its source first and then what it writes.
    named = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    own = str(temporary.absolute())
    return bool(named) and not any(str(Path(os.fsdecode(name)).absolute()).startswith(own) for name in named)


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Say at the start of long work what `atomic_file` would say at its end.

    Raises:
        OutputError: the target exists and may not be replaced.
    """
    if target.exists() and not target.is_file() and not target.is_dir():
        # It would become a file of that name, which on /dev/null the whole system would notice.
        raise OutputError(f"{quoted(target)} is a device or a pipe, which drivetl does not replace; give another file")
    if target.exists() and not overwrite:
        raise OutputError(f"{quoted(target)} exists; pass --overwrite to replace it, or choose another place")


@contextlib.contextmanager
def atomic_file(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` on success and vanishes on failure.

    The temporary name keeps the ending of ``target``, because video and image writers choose the format by it.

    Raises:
        OutputError: the target exists and ``overwrite`` is false, or the system refuses to write.
    """
    refuse_existing(target, overwrite=overwrite)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
        os.close(descriptor)
    temporary = Path(name)
    try:
        with writing(target, temporary):
            yield temporary
        with writing(target):
            # mkstemp makes files that only their owner can read; a result follows the user's umask instead.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing_dir(target: Path, *, marker: str, overwrite: bool) -> None:
    """Say at the start of long work what `atomic_dir` would say at its end.

    Raises:
        OutputError: the target exists and may not be replaced.
    """
    if target.exists():
        if not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
            raise OutputError(f"{quoted(target)} exists and was not made by drivetl; choose another place")
        if any(target.iterdir()):
            refuse_existing(target, overwrite=overwrite)


@contextlib.contextmanager
def atomic_dir(target: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that becomes ``target`` on success and vanishes on failure.

    An existing folder is replaced only with ``overwrite``, and only if it is empty or holds the file ``marker``
    that shows drivetl made it: ``--out ~ --overwrite`` must not cost anyone a home folder.

    Raises:
        OutputError: the target exists and may not be replaced, or the system refuses to write.
    """
    refuse_existing_dir(target, marker=marker, overwrite=overwrite)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        with writing(target, temporary):
            yield temporary
        with writing(target):
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o777 & ~umask)
            _swap(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, target: Path) -> None:
    """Put ``temporary`` in the place of ``target``; the old folder is deleted only once the new one stands."""
    if not target.exists():
        temporary.replace(target)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    try:
        target.replace(retired / target.name)
        temporary.replace(target)
    except BaseException:
        # Ctrl-C between the two renames is no OSError, and would leave nothing at ``target``.
        if not target.exists():
            (retired / target.name).replace(target)
        raise
    finally:
        # Where neither stands, because the old one could not be put back, this is all that is left of it.
        if target.exists():
            shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def locked_dir(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder while the block runs.

    The lock lies on the folder itself and leaves no file. The system lifts it when the process ends, however it ends.
    Where the file system or the system has no such locks, the block runs without.

    Raises:
        OutputError: another process holds it.
    """
    refusal = f"another process is at work in {quoted(folder)}; wait for it, end it, or choose another --out"
    descriptor = _lock(folder, os.O_RDONLY, refusal)
    try:
        yield
    finally:
        _let_go(descriptor)


@contextlib.contextmanager
def locked_file(path: Path, refusal: str) -> Iterator[None]:
    """Keep other processes that ask for it away from a file, as `locked_dir` does; where there is none, it is made.

    Raises:
        OutputError: another process holds it; ``refusal`` says what that does, and the remedy.
    """
    descriptor = _lock(path, os.O_RDWR | os.O_CREAT, refusal)
    # Whoever held it before may have moved the file away just then, and the lock lies on what was moved.
    while descriptor >= 0 and not _stands_at(path, descriptor):
        _let_go(descriptor)
        descriptor = _lock(path, os.O_RDWR | os.O_CREAT, refusal)
    try:
        yield
    finally:
        _let_go(descriptor)


def _lock(path: Path, flags: int, refusal: str) -> int:
    """Return the descriptor that holds a lock; -1 where there are no locks."""
    if sys.platform == "win32":
        return -1
    import fcntl

    descriptor = -1
    try:
        descriptor = os.open(path, flags, 0o666)
        _locks.add(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        _let_go(descriptor)
        raise OutputError(refusal) from error
    except OSError:
        _let_go(descriptor)
        return -1
    return descriptor


def _stands_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _let_go(*descriptors: int) -> None:
    for descriptor in _locks.intersection(descriptors or _locks):
        _locks.discard(descriptor)
        os.close(descriptor)


if hasattr(os, "register_at_fork"):
    # Loaders fork, and would hold the lock a while longer than a process that was killed.
    os.register_at_fork(after_in_child=_let_go)


def write_json(target: Path, document: Any, *, overwrite: bool = False) -> None:
    """Write a JSON document atomically.

    Raises:
        OutputError: see `atomic_file`.
    """
    with atomic_file(target, overwrite=overwrite) as temporary:
        temporary.write_bytes(json_bytes(document))
