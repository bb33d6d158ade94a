from __future__ import annotations

import os
import pickle
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetl.errors import WeightsError
from drivetl.yolo import checkpoint
from drivetl.yolo.checkpoint import load_checkpoint
from drivetl.yolo.ultra import DetectionModel

Save = Callable[..., Path]


class Hostile:
    """Unpickling this runs a command."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


def test_a_checkpoint_tells_what_it_is(save_checkpoint: Save) -> None:
    loaded = load_checkpoint(save_checkpoint(), for_training=True)
    assert len(loaded.names) == 80 and loaded.names[0] == "0"
    assert loaded.imgsz == 320
    assert loaded.licence == "AGPL-3.0"
    assert not loaded.fused
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_half_precision_is_read_as_float32(save_checkpoint: Save) -> None:
    loaded = load_checkpoint(save_checkpoint(change=lambda model: model.half()))
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", r"is a web page \(HTML\)"),
        (b"\n  <html>", r"is a web page \(HTML\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "is not a checkpoint"),
        (b"hello", "is not a checkpoint .*68 65 6c 6c 6f"),
        (b"PK\x03\x04 and then nothing", "cut off or damaged"),
    ],
)
def test_what_is_no_checkpoint_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="Is a directory"):
        load_checkpoint(tmp_path)


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"holds no data\.pkl"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_truncated_checkpoint(save_checkpoint: Save) -> None:
    path = save_checkpoint()
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        load_checkpoint(path)


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    with path.open("wb") as handle:
        handle.truncate(3 << 30)
    with pytest.raises(WeightsError, match="3221225472 bytes"):
        load_checkpoint(path)


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_LIMIT_BYTES", 1 << 20)
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1 << 21))
    assert path.stat().st_size < 1 << 14
    with pytest.raises(WeightsError, match="would unpack to 2097152 bytes"):
        load_checkpoint(path)


def test_a_hostile_archive_is_refused_by_the_name_of_what_it_wanted(tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    torch.save({"model": Hostile(witness)}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"wants to import '(posix|os|nt)\.system'"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not witness.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_bare_pickle_is_refused_by_name(protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"model": Hostile(witness)}, protocol=protocol))
    with pytest.raises(WeightsError, match=r"bare pickle wants to import '(posix|os|nt)\.system'"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not witness.exists()


def test_an_activation_that_is_code_is_never_evaluated(save_checkpoint: Save, tmp_path: Path) -> None:
    witness = tmp_path / "was-here"
    code = f"torch.nn.ReLU(__import__('os').system('touch {witness}'))"

    def poison(model: Any) -> None:
        model.yaml["activation"] = code

    with pytest.raises(WeightsError, match=r"the activation 'torch\.nn\.ReLU\(__import__"):
        load_checkpoint(save_checkpoint(change=poison))
    assert not witness.exists()
    # The rebuild that Ultralytics would do is shut as well, should a path ever lead there.
    with pytest.raises(TypeError, match="unsupported activation"):
        DetectionModel({**DetectionModel("yolo11n.yaml", verbose=False).yaml, "activation": code}, verbose=False)
    assert not witness.exists()


@pytest.mark.parametrize("activation", ["nn.ReLU()", "torch.nn.LeakyReLU(0.1, inplace=True)"])
def test_a_plain_activation_is_accepted(activation: str, save_checkpoint: Save) -> None:
    assert load_checkpoint(save_checkpoint(change=lambda m: m.yaml.update(activation=activation))).names


@pytest.mark.parametrize("activation", ["nn.Evil()", "nn.functional.relu()", "print(1)", "nn.ReLU", "(", 3])
def test_other_activations_are_refused(activation: object, save_checkpoint: Save) -> None:
    with pytest.raises(WeightsError, match="activation"):
        load_checkpoint(save_checkpoint(change=lambda m: m.yaml.update(activation=activation)))


def test_a_fused_model_predicts_but_does_not_train(save_checkpoint: Save) -> None:
    path = save_checkpoint(change=lambda model: model.fuse(verbose=False))
    assert load_checkpoint(path).fused
    with pytest.raises(WeightsError, match=r"is fused .* cannot be trained"):
        load_checkpoint(path, for_training=True)


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import SegmentationModel

    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, tmp_path / "seg.pt")
    with pytest.raises(WeightsError, match="not a detection model but"):
        load_checkpoint(tmp_path / "seg.pt")


def test_a_state_dict_alone_is_no_model(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "state.pt")
    with pytest.raises(WeightsError, match="not a detection model but 'dict'"):
        load_checkpoint(tmp_path / "state.pt")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(WeightsError):
        load_checkpoint(tmp_path / "list.pt")


def test_values_that_are_not_finite(save_checkpoint: Save) -> None:
    def spoil(model: Any) -> None:
        next(model.parameters()).data.fill_(float("nan"))

    with pytest.raises(WeightsError, match="not finite"):
        load_checkpoint(save_checkpoint(change=spoil))


def test_a_model_that_lacks_a_part_is_damaged_not_a_traceback(save_checkpoint: Save) -> None:
    def cut(model: Any) -> None:
        del model.model[-1].dfl

    with pytest.raises(WeightsError, match="damaged model"):
        load_checkpoint(save_checkpoint(change=cut))


def test_names_must_fit_the_outputs(save_checkpoint: Save) -> None:
    with pytest.raises(WeightsError, match="80 class outputs but the class names"):
        load_checkpoint(save_checkpoint(change=lambda model: setattr(model, "names", {0: "car"})))


def test_names_follow_their_ids_and_not_the_order_in_which_they_were_written(save_checkpoint: Save) -> None:
    def reorder(model: Any) -> None:
        model.names = {1: "bicycle", 0: "person", **{index: str(index) for index in range(2, 80)}}

    loaded = load_checkpoint(save_checkpoint(change=reorder))
    assert loaded.names[:3] == ("person", "bicycle", "2")
    assert list(loaded.model.names) == list(range(80))
    with pytest.raises(WeightsError, match="80 class outputs but the class names"):
        load_checkpoint(save_checkpoint(change=lambda model: setattr(model, "names", {i + 1: "a" for i in range(80)})))


def test_the_file_that_is_named_is_read_and_no_other(
    save_checkpoint: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for name in ("yolov3-tiny.pt", "o'brien/mine.pt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        save_checkpoint(change=lambda model: setattr(model, "names", {i: f"n{i}" for i in range(80)})).rename(path)
        assert load_checkpoint(path).names[0] == "n0"


def test_an_average_that_is_no_model_is_no_traceback(save_checkpoint: Save) -> None:
    with pytest.raises(WeightsError, match="is not a detection model"):
        load_checkpoint(save_checkpoint(ema=torch.zeros(2)))


@pytest.mark.material
@pytest.mark.parametrize("name", ["yolo11n", "yolov8n"])
def test_the_real_ones_load(name: str, material: Path) -> None:
    loaded = load_checkpoint(material / "weights" / f"{name}.pt", for_training=True)
    assert loaded.names[2] == "car"
    assert loaded.imgsz == 640
