from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import shlex
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from drivetl.data import data_cache, get_dataset, import_dataset, load_card, open_dataset
from drivetl.data.archives import unpack
from drivetl.data.cards import DatasetCard, Download
from drivetl.errors import ConfigError, DatasetError, DownloadError, OutputError
from drivetl.files import sha256_file


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def _card(url: str, sha256: str | None = None) -> DatasetCard:
    download = Download(url=url, sha256=sha256, format="yolo", bytes=None, names=())
    return load_card("coco128").model_copy(update={"download": download})


def test_fetched_unpacked_and_imported(served: tuple[Path, str], yolo_source: Path, tmp_path: Path) -> None:
    folder, url = served
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for path in yolo_source.rglob("*.*"):
            archive.write(path, Path("coco128") / path.relative_to(yolo_source))
    card = _card(f"{url}/set.zip", sha256_file(folder / "set.zip"))
    root = tmp_path / "cache"
    result = get_dataset(card, root)
    assert result.path == root / "coco128" / "coco128"
    assert result.sha256 == sha256_file(folder / "set.zip")
    assert [path.name for path in root.iterdir()] == ["coco128"]
    (folder / "set.zip").unlink()
    assert get_dataset(card, root) == result
    assert result.import_options == ("yolo", "--names", "coco128", "--card", "coco128")
    assert import_dataset("yolo", result.path, tmp_path / "out", card="coco128").images == 4


def test_a_password_in_the_address_is_not_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    _zip(("top/a.txt", b"a"))(folder / "set.zip")
    address = url.replace("http://", "http://alice:S3CRET@")
    assert get_dataset(_card(f"{address}/set.zip"), tmp_path / "cache").path is not None
    marker = (tmp_path / "cache/coco128/.drivetl-download.json").read_text()
    assert json.loads(marker)["url"] == f"{url}/set.zip"
    assert "S3CRET" not in marker and "alice" not in marker


def test_the_next_command_works_for_a_card_given_as_a_file(
    served: tuple[Path, str], yolo_source: Path, tmp_path: Path
) -> None:
    folder, url = served
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for path in yolo_source.rglob("*.*"):
            if path.name != "data.yaml":
                archive.write(path, Path("top") / path.relative_to(yolo_source))
    card = tmp_path / "my card.yaml"
    card.write_text(
        "name: mine\ntitle: Mine\nhomepage: http://example.org/\nlicence: none\nformat: yolo\nregistration: false\n"
        f"download: {{url: '{url}/set.zip', format: yolo, names: [car, person]}}\n"
        "classes: {car: car, person: person}\n"
    )
    command = [sys.executable, "-m", "drivetl"]
    got = subprocess.run(
        [*command, "data", "get", str(card), "--out", str(tmp_path / "cache")], capture_output=True, text=True
    )
    assert got.returncode == 0, got.stderr
    (line,) = [line for line in got.stdout.splitlines() if line.startswith("next: drivetl ")]
    words = shlex.split(line.removeprefix("next: drivetl "))
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert open_dataset(tmp_path / "DATASET").splits == {"train": 3, "val": 1}


def test_a_card_without_names_leaves_them_to_the_archive(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    _zip(("top/a.txt", b"a"))(folder / "set.zip")
    card = _card(f"{url}/set.zip").model_copy(update={"classes": {}})
    assert get_dataset(card, tmp_path / "cache").import_options == ("yolo", "--card", "coco128")


def test_kitti_from_ultralytics_is_read_with_kittis_card() -> None:
    card = load_card("kitti")
    assert card.download is not None
    assert card.download.format == "yolo"
    assert card.download.names[0] == "car"


def test_registration_gives_the_page(tmp_path: Path) -> None:
    result = get_dataset(load_card("cityscapes"), tmp_path)
    assert (result.path, result.page) == (None, "https://www.cityscapes-dataset.com/")
    with pytest.raises(DownloadError, match="describes a format"):
        get_dataset(load_card("voc"), tmp_path)


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DRIVETL_DATA", str(tmp_path))
    assert data_cache() == tmp_path
    monkeypatch.setenv("DRIVETL_DATA", "~/x")
    assert data_cache() == Path.home() / "x"
    monkeypatch.setenv("DRIVETL_DATA", "~nobody-knows-me/x")
    with pytest.raises(ConfigError, match="DRIVETL_DATA '~nobody-knows-me/x' is not known; write the path out"):
        data_cache()
    monkeypatch.delenv("DRIVETL_DATA")
    assert data_cache() == Path.home() / ".cache" / "drivetl" / "data"


def _zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                archive.writestr(name, content)

    return make


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"abc"))

    return make


def _zip_link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _lying_zip(path: Path) -> None:
    """Understate the size of a member in the central directory; the CRC there stays right."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"x" * 1000)
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02") + 24
    path.write_bytes(data[:at] + (5).to_bytes(4, "little") + data[at + 4 :])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_zip(("good.txt", b"a"), ("../evil.txt", b"b")), "'../evil.txt' points outside"),
        (_zip(("/etc/evil.txt", b"b")), "points outside"),
        (_zip(("a/../../evil.txt", b"b")), "points outside"),
        (_zip(("C:evil.txt", b"b")), "points outside"),
        (_zip((_zip_link(), b"/etc/passwd")), "'link' is a link or a device"),
        (_zip(("a", b"1"), ("a/b", b"2")), "is a file and a folder"),
        (_zip(("bomb", b"\0" * (80 << 20))), "a hundred times its size"),
        (_tar("../evil.txt"), "points outside"),
        (_tar("/evil.txt"), "points outside"),
        (_tar("link", tarfile.SYMTYPE, "/etc"), "a link or a device"),
        (_tar("link", tarfile.LNKTYPE, "/etc/passwd"), "a link or a device"),
        (_tar("fifo", tarfile.FIFOTYPE), "a link or a device"),
        (_tar("disk", tarfile.BLKTYPE), "a link or a device"),
        (lambda path: path.write_text("<html>no archive</html>"), "no ZIP or TAR archive"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 10), "no ZIP or TAR archive"),
        (_lying_zip, "damaged|larger than it says|ends"),
    ],
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    archive, folder = tmp_path / "archive", tmp_path / "a" / "target"
    folder.mkdir(parents=True)
    make(archive)
    with pytest.raises(DatasetError, match=message):
        unpack(archive, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "archive"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["target"]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    _zip(("a", b"1"), ("a", b"2"))(tmp_path / "archive")
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError, match="'a' stands twice"):
        unpack(tmp_path / "archive", tmp_path / "target")


def test_a_good_tar(tmp_path: Path) -> None:
    _tar("folder/a.txt")(tmp_path / "archive")
    (tmp_path / "target").mkdir()
    unpack(tmp_path / "archive", tmp_path / "target")
    assert (tmp_path / "target/folder/a.txt").read_bytes() == b"abc"


def _large_tar(path: Path, compression: str, after: bytes = b"") -> bytes:
    """Write a TAR of labels and noise, and return what is in its one member."""
    content = b"0 0.5 0.5 0.1 0.1\n" * 2000 + np.random.default_rng(0).bytes(200_000)
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as archive:
        info = tarfile.TarInfo("labels.txt")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    compress = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression]
    path.write_bytes(compress(tarred.getvalue() + after))
    return content


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("place", [0.5, 0.75, -3])
def test_a_flipped_bit_in_a_compressed_archive_is_noticed(tmp_path: Path, compression: str, place: float) -> None:
    archive = tmp_path / f"set.tar.{compression}"
    content = _large_tar(archive, compression)
    (tmp_path / "whole").mkdir()
    unpack(archive, tmp_path / "whole")
    assert (tmp_path / "whole/labels.txt").read_bytes() == content
    data = bytearray(archive.read_bytes())
    data[int(place * len(data)) if place > 0 else int(place)] ^= 1
    archive.write_bytes(data)
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError, match="is damaged"):
        unpack(archive, tmp_path / "target")


def test_a_zip_that_leads_before_its_beginning(tmp_path: Path) -> None:
    archive = tmp_path / "set.zip"
    _zip(("a.txt", b"a"))(archive)
    data = bytearray(archive.read_bytes())
    at = data.rindex(b"PK\x05\x06") + 16  # where the central directory says that it begins
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    archive.write_bytes(data)
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError, match="is damaged"):
        unpack(archive, tmp_path / "target")


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_archive_that_ends_early(tmp_path: Path, compression: str) -> None:
    archive = tmp_path / "set.tar"
    _large_tar(archive, compression)
    archive.write_bytes(archive.read_bytes()[:-9])
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError, match="is damaged"):
        unpack(archive, tmp_path / "target")


def test_an_archive_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetl.data.archives._FREE_BYTES", 1 << 20)
    monkeypatch.setattr("drivetl.data.archives._MAX_RATIO", 1)
    _large_tar(tmp_path / "set.tar.gz", "gz", after=b"\0" * (4 << 20))
    (tmp_path / "target").mkdir()
    with pytest.raises(DatasetError, match="goes on without end"):
        unpack(tmp_path / "set.tar.gz", tmp_path / "target")


def test_what_the_system_refuses_is_no_damage(tmp_path: Path) -> None:
    _tar("folder/a.txt")(tmp_path / "archive")
    (tmp_path / "target").write_text("a file in the way")
    with pytest.raises(OSError):
        unpack(tmp_path / "archive", tmp_path / "target")


def test_a_refused_archive_leaves_no_dataset(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    _zip(("../evil.txt", b"b"))(folder / "set.zip")
    with pytest.raises(DatasetError, match="points outside"):
        get_dataset(_card(f"{url}/set.zip"), tmp_path / "cache")
    assert not (tmp_path / "cache" / "coco128").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_broken_archive_does_not_block_the_next_call(
    served: tuple[Path, str], tmp_path: Path, overwrite: bool
) -> None:
    folder, url = served
    (folder / "set.zip").write_text("<html>busy</html>")
    card, root = _card(f"{url}/set.zip"), tmp_path / "cache"
    with pytest.raises(DatasetError, match="no ZIP or TAR archive"):
        get_dataset(card, root)
    assert list(root.iterdir()) == []
    _zip(("top/a.txt", b"a"))(folder / "set.zip")
    assert get_dataset(card, root, overwrite=overwrite).path == root / "coco128" / "top"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_unpack_does_not_block_the_next_call(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, overwrite: bool
) -> None:
    folder, url = served
    _zip(("top/a.txt", b"old"))(folder / "set.zip")
    card, root = _card(f"{url}/set.zip"), tmp_path / "cache"

    def stop(*_: object) -> None:
        raise error

    with monkeypatch.context() as context:
        context.setattr("drivetl.data.getting.unpack", stop)
        with pytest.raises((KeyboardInterrupt, OutputError)):
            get_dataset(card, root)
    assert [path.name for path in root.iterdir()] == ["coco128-set.zip"]
    old = sha256_file(folder / "set.zip")
    _zip(("top/a.txt", b"new"))(folder / "set.zip")
    result = get_dataset(card, root, overwrite=overwrite)
    assert result.path is not None
    assert (result.path / "a.txt").read_bytes() == (b"new" if overwrite else b"old")
    assert (result.sha256 == old) is not overwrite
    assert [path.name for path in root.iterdir()] == ["coco128"]


def test_with_a_hash_what_lies_there_counts_by_it(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    _zip(("top/a.txt", b"a"))(folder / "set.zip")
    card, root = _card(f"{url}/set.zip", sha256_file(folder / "set.zip")), tmp_path / "cache"
    root.mkdir()
    (root / "coco128-set.zip").write_text("of another day")
    with pytest.raises(OutputError, match="exists and its sha256 is"):
        get_dataset(card, root)
    assert get_dataset(card, root, overwrite=True).path == root / "coco128" / "top"
    (root / "coco128-set.zip").write_bytes((folder / "set.zip").read_bytes())
    (folder / "set.zip").unlink()
    assert get_dataset(card, root, overwrite=True).path == root / "coco128" / "top"
