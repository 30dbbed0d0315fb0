"""Other tools' exports: what converts or can be mended without loss is taken, with a note.

The rule of each case: it gives what the data set gives in which the values are as COCO has them.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.prepare import check_data, prepare_data
from dynrcnn_ray.evaluation.ground_truth import read_ground_truth
from tests.data.broken_sets import HEIGHT, WIDTH, annotation_file, valid_content, write, write_valid

Content = dict[str, Any]
Change = Callable[[Content], object]
NAN = float("nan")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def change_both(root: Path, *changes: Change) -> None:
    for split in ("train", "val"):
        content = valid_content()
        for change in changes:
            change(content)
        write(root, split, content)


def everywhere(kind: str, key: str, convert: Callable[[Any], Any]) -> Change:
    return lambda content: [record.update({key: convert(record.get(key))}) for record in content[kind]]


def taken(root: Path, *, masks: bool = False) -> dict[str, Any]:
    """All that training and evaluation read of both splits."""
    prepared = prepare_data(DataConfig(root=str(root)), include_masks=masks)
    read: dict[str, Any] = {}
    for split in ("train", "val"):
        dataset = CocoDataset(prepared.root, split, include_masks=masks)
        items = [dataset[Sample(index, flip=True)] for index in range(len(dataset))]
        read[split] = {
            "classes": (dataset.category_ids, dataset.class_names),
            "images": dataset.image_ids,
            "targets": [{key: torch.as_tensor(value).tolist() for key, value in target.items()} for _, target in items],
        }
    truth = read_ground_truth(annotation_file(Path(prepared.root), "val"))
    read["truth"] = [column.tolist() for column in (truth.pair, truth.boxes, truth.areas, truth.is_crowd)]
    return read


def notes(root: Path, split: str, *, masks: bool = False) -> list[str]:
    return [str(fault) for fault in check_data(DataConfig(root=str(root)), include_masks=masks)[split].faults]


def area_of_box(content: Content) -> None:
    for record in content["annotations"]:
        record["area"] = record["bbox"][2] * record["bbox"][3]


CONVERTED: dict[str, tuple[tuple[Change, ...], str]] = {
    "ids of images as floats": (
        (everywhere("images", "id", float), everywhere("annotations", "image_id", float)),
        "values of another JSON type (image_id): 7 annotations (id 1: image_id 11.0,",
    ),
    "ids of images as text": (
        (everywhere("images", "id", lambda number: f"{number:012d}"), everywhere("annotations", "image_id", str)),
        "values of another JSON type (id): 3 images (id '000000000011'",
    ),
    "ids of images as text here alone": (
        (everywhere("images", "id", str),),
        "values of another JSON type (id): 3 images (id '11', id '12', id '15'); read as what",
    ),
    "references as text of floats": (
        (everywhere("annotations", "category_id", lambda number: f"{number}.0"),),
        "values of another JSON type (category_id): 7 annotations (id 1: category_id '3.0',",
    ),
    "ids of categories as text": (
        (everywhere("categories", "id", str),),
        "values of another JSON type (id): 2 categories",
    ),
    "iscrowd as a truth value": (
        (everywhere("annotations", "iscrowd", bool),),
        "values of another JSON type (iscrowd): 7 annotations (id 1: iscrowd False,",
    ),
    "iscrowd as a float": (
        (everywhere("annotations", "iscrowd", float),),
        "values of another JSON type (iscrowd): 7 annotations (id 1: iscrowd 0.0,",
    ),
    "iscrowd as text": (
        (everywhere("annotations", "iscrowd", str),),
        "values of another JSON type (iscrowd): 7 annotations (id 1: iscrowd '0',",
    ),
    "no crowd as null": (
        (everywhere("annotations", "iscrowd", lambda flag: flag or None),),
        "values of another JSON type (iscrowd): 6 annotations (id 1: iscrowd None,",
    ),
    "no crowd as NaN": (
        (everywhere("annotations", "iscrowd", lambda flag: flag or NAN),),
        "values of another JSON type (iscrowd): 6 annotations (id 1: iscrowd nan,",
    ),
    "sides as floats and text": (
        (everywhere("images", "width", float), everywhere("images", "height", str)),
        "values of another JSON type (width, height): 3 images (id 11: width 40.0,",
    ),
    "boxes of text": (
        (everywhere("annotations", "bbox", lambda box: [str(side) for side in box]),),
        "values of another JSON type (bbox): 7 annotations (id 1: bbox ['4.0', '5.0', '12.0', '12.0'],",
    ),
    "everything at once": (
        (
            everywhere("annotations", "image_id", float),
            everywhere("annotations", "category_id", str),
            everywhere("annotations", "iscrowd", bool),
        ),
        "values of another JSON type (image_id, category_id, iscrowd): 7 annotations (id 1: image_id 11.0,",
    ),
    "extra fields": (
        (everywhere("annotations", "color", lambda _: "#037fc6"), everywhere("annotations", "metadata", lambda _: {})),
        "",
    ),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_another_json_type_gives_the_same_data(root: Path, case: str) -> None:
    expected = taken(root)
    changes, note = CONVERTED[case]
    change_both(root, *changes)
    assert taken(root) == expected
    for split in ("train", "val"):
        found = notes(root, split)
        assert bool(found) == bool(note)
        assert not note or any(note in line for line in found)


@pytest.mark.parametrize("value", [None, NAN])
def test_an_area_that_is_none_is_that_of_the_box(root: Path, value: float | None) -> None:
    change_both(root, area_of_box)
    expected = taken(root)
    change_both(root, everywhere("annotations", "area", lambda _: value))
    assert taken(root) == expected
    (note,) = notes(root, "val")
    assert "has no 'area', by which AP_S, AP_M and AP_L sort objects: 7 annotations (" in note
    assert notes(root, "train") == []


def test_an_area_of_text_is_a_number(root: Path) -> None:
    expected = taken(root)
    change_both(root, everywhere("annotations", "area", str))
    assert taken(root) == expected


@pytest.mark.parametrize(
    ("odd", "is_told"),
    [
        (lambda number: number - 1, True),
        (lambda number: 7, True),
        (lambda number: 2**80 + number, False),
        (lambda number: f"3fa85f64-{number}", True),
        (lambda number: None, True),
        (float, False),
    ],
    ids=["from 0", "all alike", "80 bits", "uuid", "null", "floats"],
)
def test_the_id_of_an_annotation_is_for_nothing(root: Path, odd: Callable[[int], object], is_told: bool) -> None:
    expected = taken(root)
    change_both(root, everywhere("annotations", "id", odd))
    assert taken(root) == expected
    found = [note for note in notes(root, "val") if "pycocotools takes matches for misses" in note]
    assert len(found) == is_told
    assert notes(root, "train") == []


def test_annotations_without_ids(root: Path) -> None:
    expected = taken(root)
    change_both(root, lambda content: [record.pop("id") for record in content["annotations"]])
    assert taken(root) == expected


def test_what_reads_the_data_gets_a_copy_and_the_data_set_stays_as_it_is(root: Path) -> None:
    plain = prepare_data(DataConfig(root=str(root)))
    assert plain.root == str(root)
    change_both(root, everywhere("annotations", "iscrowd", bool))
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    prepared = prepare_data(DataConfig(root=str(root)))
    assert prepared.root != str(root)
    copied = json.loads(annotation_file(Path(prepared.root), "val").read_text())
    assert copied == valid_content()
    assert prepare_data(DataConfig(root=str(root)), expected=prepared.fingerprint) == prepared
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


SEGMENTATIONS = [[], [[]], None, NAN, "", {}, [1, 2], [[4, 5, 6, 7]], [[4, 5, 6]], [4, 5, 9, 5, 9, 9], {"size": [3, 4]}]


@pytest.mark.parametrize("value", SEGMENTATIONS, ids=repr)
def test_segmentations_are_for_nothing_where_no_masks_are_predicted(root: Path, value: Any) -> None:
    expected = taken(root)
    change_both(root, everywhere("annotations", "segmentation", lambda _: value))
    assert taken(root) == expected
    for split in ("train", "val"):
        assert notes(root, split) == []


def polygon_of_first(value: Any) -> Change:
    return lambda content: content["annotations"][0].update(segmentation=value)


@pytest.mark.parametrize(
    ("value", "note"),
    [
        (
            [[4, 5, 16, 5, 16, 17, 4, 17], [4, 5, 6, 7]],
            "pieces of a segmentation that are no polygons: 1 annotation (id 1)",
        ),
        ([[4, 5], [4, 5, 16, 5, 16, 17, 4, 17], []], "pieces of a segmentation that are no polygons"),
        ([[4, 5, 16, 5, 16, 17, 4, 17], [4, 5, 6, 5, NAN, 7]], "pieces of a segmentation that are no polygons"),
        ([4, 5, 16, 5, 16, 17, 4, 17], "segmentation is one polygon, not a list of polygons: 1 annotation (id 1)"),
    ],
)
def test_of_several_polygons_the_bad_one_goes(root: Path, value: Any, note: str) -> None:
    change_both(root, polygon_of_first([[4, 5, 16, 5, 16, 17, 4, 17]]))
    expected = taken(root, masks=True)
    change_both(root, polygon_of_first(value))
    assert taken(root, masks=True) == expected
    (found,) = notes(root, "val", masks=True)
    assert note in found


def test_a_box_a_few_pixels_over_the_border_is_clipped(root: Path) -> None:
    def box(*sides: float) -> Change:
        return lambda content: content["annotations"][0].update(bbox=list(sides), area=sides[2] * sides[3])

    inside = {
        (WIDTH - 20, HEIGHT - 20, 23, 23): (WIDTH - 20, HEIGHT - 20, 20, 20),
        (-3, -3, 10, 10): (0, 0, 7, 7),
        (-2, 5, 3, 12): (0, 5, 1, 12),
        (-4, -4, WIDTH + 9, HEIGHT + 9): (0, 0, WIDTH, HEIGHT),
        (20, 5, 38, 4): (20, 5, 20, 4),
    }
    for over, clipped in inside.items():
        change_both(root, box(*map(float, clipped)))
        expected = taken(root)
        change_both(root, box(*over))
        assert taken(root) == expected
        for split in ("train", "val"):
            (note,) = notes(root, split)
            assert "bbox that sticks out of its image: 1 annotation (id 1: bbox [" in note
            assert note.endswith("; clipped to the image")


def test_a_box_that_rounding_pushes_over_the_border_stays_as_in_the_file(root: Path) -> None:
    """COCO has such boxes, and its evaluation measures with them."""
    change_both(root, lambda content: content["annotations"][0].update(bbox=[29.5, 5, 10.9, 4]))
    truth = read_ground_truth(annotation_file(Path(prepare_data(DataConfig(root=str(root))).root), "val"))
    assert [29.5, 5, 10.9, 4] in truth.boxes.tolist()
    assert notes(root, "val") == []


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "boxes fit into their images only as corners, x1, y1, x2, y2"),
        (lambda x, y, w, h: [y, x, y + h, x + w], "boxes fit into their images only as corners, y1, x1, y2, x2"),
        (lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT], "7 of 7 boxes lie within 0 and 1"),
        (
            lambda x, y, w, h: [x / WIDTH, y / HEIGHT, (x + w) / WIDTH, (y + h) / HEIGHT],
            "7 of 7 boxes lie within 0 and 1",
        ),
    ],
    ids=["corners", "swapped corners", "shares", "shares as corners"],
)
def test_boxes_of_another_format_are_refused_as_that(
    root: Path, change: Callable[..., Any], what: str, drop: bool
) -> None:
    change_both(
        root, lambda content: [record.update(bbox=change(*record["bbox"])) for record in content["annotations"]]
    )
    with pytest.raises(DataError) as caught:
        prepare_data(DataConfig(root=str(root), drop_invalid=drop))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(what in line for line in lines)
    assert all(line.endswith("; give x, y, width and height in pixels") for line in lines)


def test_large_boxes_that_stick_out_are_no_corners(root: Path) -> None:
    """As corners they would fit too."""
    box = [1.0, 1.0, WIDTH + 2.0, HEIGHT + 2.0]
    change_both(root, lambda content: content["annotations"][0].update(bbox=box, area=4))
    (note,) = notes(root, "train")
    assert "sticks out" in note


@pytest.mark.parametrize("masks", [False, True])
def test_a_root_category_is_no_class(root: Path, masks: bool) -> None:
    expected = taken(root, masks=masks)

    def hang(content: Content) -> None:
        for category in content["categories"]:
            category["supercategory"] = "animals"
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})

    change_both(root, hang)
    assert taken(root, masks=masks) == expected
    (note,) = notes(root, "train")
    assert (
        "category 0 has no annotations and 'animals' is the supercategory of others; left out, it is no class" in note
    )


def test_a_root_category_of_the_classs_own_name_is_no_class(root: Path) -> None:
    expected = taken(root)
    change_both(
        root, lambda content: content["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})
    )
    assert taken(root) == expected


def test_a_category_that_one_split_uses_is_a_class_of_both(root: Path) -> None:
    def parent(content: Content) -> None:
        content["categories"][1]["supercategory"] = "cat"
        for record in content["annotations"]:
            record["category_id"] = 90

    for split, change in (("train", lambda content: None), ("val", parent)):
        content = valid_content()
        content["categories"][1]["supercategory"] = "cat"
        change(content)
        write(root, split, content)
    read = taken(root)
    assert read["train"]["classes"] == read["val"]["classes"] == ([3, 90], ["cat", "dog"])


def test_a_category_that_is_its_own_supercategory_is_a_class(root: Path) -> None:
    """COCO's person is."""
    change_both(root, lambda content: content["categories"].append({"id": 91, "name": "owl", "supercategory": "owl"}))
    assert taken(root)["val"]["classes"] == ([3, 90, 91], ["cat", "dog", "owl"])


def test_numbers_are_equal_but_for_their_json_type() -> None:
    """The comparison above would not see a NaN."""
    assert not math.isnan(sum(sum(record["bbox"]) for record in valid_content()["annotations"]))
