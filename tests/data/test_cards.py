from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from drivetl.data.cards import class_map, known_cards, load_card, names_from
from drivetl.data.readers import READERS
from drivetl.errors import ConfigError, DatasetError
from drivetl.resources import resource_file
from drivetl.taxonomy import DRIVING_CLASSES, canonical_name


@pytest.mark.parametrize("name", known_cards())
def test_every_shipped_card_loads(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.format in READERS
    assert card.download is None or card.download.format in READERS


def test_every_format_has_a_card_of_its_name() -> None:
    assert set(READERS) <= set(known_cards())


@pytest.mark.parametrize("name", known_cards())
def test_a_card_never_contradicts_the_taxonomy(name: str) -> None:
    """Where a native name means a class of the taxonomy, the card maps it there or removes it on purpose."""
    for native, target in load_card(name).classes.items():
        if (meaning := canonical_name(native)) in DRIVING_CLASSES:
            assert target in (meaning, "drop", "ignore"), native


def test_kitti_maps_merges_drops_and_ignores() -> None:
    mapping = class_map(load_card("kitti"), "driving", None)
    targets = {name: mapping.target(name) for name in ("Car", "Van", "Tram", "Cyclist", "Misc", "DontCare")}
    assert targets == {
        "Car": "car",
        "Van": "car",
        "Tram": "train",
        "Cyclist": "rider",
        "Misc": "drop",
        "DontCare": None,
    }
    assert mapping.names([]) == ("person", "rider", "car", "truck", "train")


def test_native_keeps_everything_but_what_is_ignored() -> None:
    mapping = class_map(load_card("kitti"), "native", None)
    assert mapping.names([]) == ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
    assert mapping.target("Misc") == "Misc"
    assert mapping.target("DontCare") is None


def test_an_unknown_class_names_the_remedy() -> None:
    with pytest.raises(DatasetError, match=r"'Hovercraft'.*copy of datasets/kitti\.yaml.*--card"):
        class_map(load_card("kitti"), "driving", None).target("Hovercraft")


def test_a_generic_card_maps_by_meaning_and_drops_the_rest() -> None:
    mapping = class_map(load_card("voc"), "driving", None)
    assert mapping.target("Pedestrian") == "person"
    assert mapping.target("motorbike") == "motorcycle"
    assert mapping.target("sofa") == "drop"
    assert mapping.names(["truck", "person"]) == ("person", "truck")


def test_terminal_markup_in_a_class_name_is_spelled_out() -> None:
    mapping = class_map(load_card("yolo"), "native", ("\x1b[31mcar", "a\u202eb"))
    assert mapping.names([]) == ("\\x1b[31mcar", "a\\u202eb")
    assert mapping.target("\x1b[31mcar") == "\\x1b[31mcar"


def test_an_edited_copy_is_read_and_a_wrong_target_refused(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("datasets/kitti.yaml").read_text()
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(text.replace("Misc: drop", "Misc: truck"))
    bad.write_text(text.replace("Misc: drop", "Misc: lorry"))
    assert load_card(good).classes["Misc"] == "truck"
    with pytest.raises(ConfigError, match="'lorry', which is not one of person, rider"):
        load_card(bad)


def test_an_unknown_card_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'kiti'; known: bdd100k, cityscapes, coco"):
        load_card("kiti")


def test_coco_names_are_the_eighty_in_order() -> None:
    names = names_from("coco")
    assert len(names) == 80
    assert (names[0], names[2], names[7], names[79]) == ("person", "car", "truck", "toothbrush")


def test_names_from_a_card_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(resource_file("datasets", "coco128").read_text())
    assert names_from(path) == names_from("coco128")


@pytest.mark.parametrize("card", ["yolo", "voc", "{folder}/mine.yaml"])
def test_a_card_without_names_gives_none(tmp_path: Path, card: str) -> None:
    value = card.format(folder=tmp_path)
    (tmp_path / "mine.yaml").write_text(resource_file("datasets", "yolo").read_text())
    with pytest.raises(ConfigError, match=f"--names '{value}' is a card that lists no classes; give a file"):
        names_from(value)


@pytest.mark.parametrize("name", ["../../escaped", "/etc", "..", ".hidden", "a/b", "a\\b", "", "a\n", "x" * 200])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    document = yaml.safe_load(resource_file("datasets", "coco128").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**document, "name": name}))
    with pytest.raises(ConfigError, match="'name' is"):
        load_card(path)


def test_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("car\n person \n\n")
    assert names_from(path) == ("car", "person")
    path.write_text("car\ncar\n")
    with pytest.raises(ConfigError, match="each once"):
        names_from(path)
    with pytest.raises(ConfigError, match="neither a file"):
        names_from("nothing")
