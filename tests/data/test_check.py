"""Every kind of bad data gives its line; with `drop_invalid`, what is left is loaded and measured."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.check.check_split import CheckedSplit, Demands, check_splits
from dynrcnn_ray.data.check.masks import broken_run_lengths
from dynrcnn_ray.data.layout import find_split
from dynrcnn_ray.data.prepare import fingerprint, prepare_data
from tests.data.broken_sets import (
    HEIGHT,
    WIDTH,
    annotation_file,
    load_and_measure,
    valid_content,
    write,
    write_valid,
)

Change = Callable[[dict[str, Any]], object]
POLYGON, MASK, CROWD = 0, 1, 6  # annotations of the first image


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_valid(tmp_path / "set")
    return tmp_path / "set"


def data(root: Path, *, drop_invalid: bool = False) -> DataConfig:
    return DataConfig(root=str(root), drop_invalid=drop_invalid)


def change_val(root: Path, change: Change) -> None:
    content = valid_content()
    change(content)
    write(root, "val", content)


def annotation(number: int, **fields: Any) -> Change:
    return lambda content: content["annotations"][number].update(fields)


def image(number: int, **fields: Any) -> Change:
    return lambda content: content["images"][number].update(fields)


def mask(**fields: Any) -> Change:
    return lambda content: content["annotations"][MASK]["segmentation"].update(fields)


def polygon(*coordinates: Any) -> Change:
    return annotation(POLYGON, segmentation=[list(coordinates)])


def checked(root: Path, split: str, **demands: bool) -> CheckedSplit:
    return check_splits({split: find_split(root, split)}, {split: Demands(**demands)})[split]


NAN, INF = float("nan"), float("inf")
DROPPED_ANNOTATIONS: list[tuple[Change, str]] = [
    (annotation(0, bbox=[4, 5, -3, 4]), "bbox of negative width or height: 1 annotation (id 1: bbox [4, 5, -3, 4])"),
    (annotation(0, bbox=[4, 5, 3, -0.5]), "bbox of negative width or height"),
    (annotation(0, bbox=[4, 5, 0, 4]), "bbox of (nearly) zero width or height, which no detection can match"),
    (annotation(0, bbox=[4, 5, NAN, 4]), "bbox is not four finite numbers: 1 annotation (id 1: bbox [4, 5, nan, 4])"),
    (annotation(0, bbox=[4, 5, INF, 4]), "bbox is not four finite numbers"),
    (annotation(0, bbox=[4, 5, 10**400, 4]), "bbox is not four finite numbers"),
    (annotation(0, bbox=[4, 5, True, 4]), "bbox is not four finite numbers"),
    (annotation(0, bbox=[4, 5, 6]), "bbox is not four finite numbers"),
    (annotation(0, bbox="4 5 6 7"), "bbox is not four finite numbers"),
    (annotation(0, bbox=[4, 5, "six", 4]), "bbox is not four finite numbers"),
    (annotation(0, bbox=[4, 5, "nan", 4]), "bbox is not four finite numbers"),
    (
        annotation(0, bbox=[42, 5, 12, 4]),
        "bbox outside its image, or more than half of it: 1 annotation (id 1: bbox [4",
    ),
    (annotation(0, bbox=[-20, -20, 12, 4]), "bbox outside its image, or more than half of it"),
    (annotation(0, bbox=[30, 5, 24, 4]), "bbox outside its image, or more than half of it"),
    (annotation(0, bbox=[4.3, 5, 1e-6, 4]), "bbox of (nearly) zero width or height, which no detection can match"),
    (annotation(0, category_id=4), "unknown category_id: 1 annotation (id 1: category_id 4)"),
    (annotation(0, category_id=True), "unknown category_id: 1 annotation (id 1: category_id True)"),
    (annotation(0, category_id=[3]), "unknown category_id"),
    (annotation(0, category_id=3.5), "unknown category_id: 1 annotation (id 1: category_id 3.5)"),
    (annotation(0, category_id=None), "unknown category_id"),
    (annotation(0, image_id=13), "unknown image_id: 1 annotation (id 1: image_id 13)"),
    (annotation(0, iscrowd="some"), "iscrowd is neither 0 nor 1: 1 annotation (id 1: iscrowd 'some')"),
    (annotation(0, iscrowd=0.5), "iscrowd is neither 0 nor 1"),
    (annotation(0, iscrowd=2), "iscrowd is neither 0 nor 1: 1 annotation (id 1: iscrowd 2)"),
    (annotation(0, area=1e11), "area is not from 0 to that of the image"),
    (annotation(0, area=-1), "area is not from 0 to that of the image"),
    (annotation(0, segmentation=[]), "no segmentation, which Mask R-CNN needs for every object: 1 annotation (id 1)"),
    (annotation(0, segmentation=[[]]), "no segmentation, which Mask R-CNN needs for every object: 1 annotation (id 1)"),
    (annotation(0, segmentation=None), "no segmentation, which Mask R-CNN needs"),
    (annotation(0, segmentation=[4, 5, 9, 5, 9]), "(id 1: not a list of lists of coordinates)"),
    (annotation(0, segmentation=[[4, 5, 9, 5], [4, 5]]), "(id 1: 4 coordinates"),
    (annotation(0, segmentation="polygon"), "neither polygons nor an RLE mask: 1 annotation (id 1: 'polygon')"),
    (polygon(4, 5, 9, 5, 9), "(id 1: 5 coordinates, which is no even number from 6 on)"),
    (polygon(4, 5, 9, 5, 9, 8, 4), "(id 1: 7 coordinates, which is no even number from 6 on)"),
    (polygon(4, 5, 9, 5), "(id 1: 4 coordinates"),
    (polygon(4, 5, 9, 5, 9, NAN), "(id 1: coordinates that are not finite)"),
    (polygon(4, 5, 9, 5, 9, "8"), "(id 1: coordinates that are not numbers)"),
    (polygon(4, 5, 9, 5, 9, False), "(id 1: coordinates that are not numbers)"),
    (polygon(4, 5, 9, 5, 9, 1e12), "(id 1: coordinates far outside the image)"),
    (polygon(4, 5, 9, 5, 9, 10**400), "(id 1: coordinates far outside the image)"),
    (mask(size=[WIDTH, HEIGHT]), f"(id 2: height and width [{WIDTH}, {HEIGHT}], where the image has [30, 40])"),
    (mask(size="large"), "(id 2: height and width large"),
    (mask(counts="\x00garbage"), "(id 2: counts that are no run lengths)"),
    (mask(counts="\ud800"), "(id 2: counts that are no run lengths)"),
    (mask(counts=""), "(id 2: counts that are no run lengths)"),
    (mask(counts="o" * 40), "(id 2: counts that are no run lengths)"),
    (mask(counts="50"), "(id 2: counts that sum to 5, where the image has 1200 pixels)"),
    (mask(counts=[5, -5, 1200]), "(id 2: counts that are no run lengths)"),
    (mask(counts=[600, 599]), "(id 2: counts that sum to 1199, where the image has 1200 pixels)"),
    (mask(counts=[10**30]), "(id 2: counts that are no run lengths)"),
    (mask(counts=None), "(id 2: counts that are no run lengths)"),
    (annotation(CROWD, segmentation={"size": [30, 40], "counts": [7]}), "(id 7: counts that sum to 7"),
    (
        lambda content: content["annotations"][0].pop("bbox"),
        "has no 'bbox': 1 annotation (id 1); COCO asks for image_id",
    ),
    (lambda content: content["annotations"].insert(0, None), "not a JSON object: 1 annotation (annotations[0])"),
    (lambda content: content["annotations"].append(content["annotations"][0]), "listed twice: 1 annotation (id 1"),
    (lambda content: content["annotations"][0].clear(), "has no 'image_id' and no 'category_id' and no 'bbox'"),
]
DROPPED_IMAGES: list[tuple[Change, str]] = [
    (image(0, id="eleven"), "id is text: 1 image (id 'eleven': file_name '11.png'); number the images"),
    (image(0, id=11.5), "id is no whole number: 1 image (id 11.5: file_name '11.png')"),
    (image(0, id=1e17), "id is a floating-point number too large to hold every digit: 1 image (id 1e+17"),
    (image(0, id=2**63), "id needs more than 64 bits: 1 image (id 9223372036854775808"),
    (image(0, id=True), "id is no number: 1 image (id True"),
    (image(0, id=12), "id given to several images: 2 images (id 12: file_name '11.png', id 12: file_name '12.png')"),
    (image(0, file_name=""), "file_name names no file: 1 image (id 11: file_name '')"),
    (image(0, file_name="pictures/"), "file_name names no file"),
    (image(0, file_name="../val/11.png"), "file_name leads out of the split's folder"),
    (image(0, file_name="a\\..\\..\\11.png"), "file_name leads out of the split's folder"),
    (image(0, file_name="/etc/passwd"), "file_name is an absolute path, not one below the split's folder"),
    (image(0, file_name="C:\\pictures\\11.png"), "file_name is an absolute path, not one below the split's folder"),
    (image(0, file_name="11.png\0"), "file_name holds the character NUL"),
    (image(0, file_name="1\n1.png"), r"lacks images: 1 image (id 11: '1\n1.png')"),
    (image(0, file_name=7), "file_name is no text: 1 image (id 11: file_name 7)"),
    (image(0, width=0), "width is no number of pixels: 1 image (id 11: width 0)"),
    (image(0, height=-30), "height is no number of pixels"),
    (image(0, height=NAN), "height is no number of pixels"),
    (image(0, width=True), "width is no number of pixels"),
    (image(0, width=39.5), "width is no number of pixels: 1 image (id 11: width 39.5)"),
    (image(0, width=10**9), "width is no number of pixels"),
    (image(0, width=41), "of another size than annotated: 1 image (id 11: '11.png' 40x30, annotated 41x30)"),
    (image(0, file_name="none.png"), "lacks images: 1 image (id 11: 'none.png'); restore them"),
    (lambda content: content["images"][0].pop("width"), "has no 'width': 1 image (id 11)"),
    (
        lambda content: [content["images"][0].pop(side) for side in ("width", "height")],
        "has no 'width' and no 'height': 1 image (id 11)",
    ),
]
REFUSED: list[tuple[Change, str]] = [
    (lambda content: content["categories"].append({"id": 3, "name": "owl"}), "id given to several categories: 2 cat"),
    (lambda content: content["categories"][1].update(name="cat"), "name given to several categories: 2 cat"),
    (lambda content: content["categories"].append({"id": "four", "name": "owl"}), "id is text: 1 category (id 'four'"),
    (
        lambda content: content["categories"].append({"id": 4, "name": None}),
        "name is no text: 1 category (id 4: name N",
    ),
    (lambda content: content["categories"].append({"id": 4, "name": "owl"}), "category 4 is 'owl', but instances_tr"),
    (lambda content: content["categories"].append(5), "not a JSON object: 1 category (categories[2])"),
    (lambda content: content["categories"].clear(), "the list 'categories' is empty; at least one is needed"),
    (lambda content: content["images"].clear(), "the list 'images' is empty; at least one is needed"),
    (lambda content: content["annotations"].clear(), "instances_val.json: has no objects; a split needs objects"),
    (lambda content: content.pop("annotations"), "has no list 'annotations'; give COCO instance annotations"),
]


def refusal(root: Path, *, drop_invalid: bool = False) -> list[str]:
    with pytest.raises(DataError) as caught:
        prepare_data(data(root, drop_invalid=drop_invalid), include_masks=True)
    return str(caught.value).split("\n")


def test_the_valid_set_is_taken(root: Path) -> None:
    datasets = load_and_measure(data(root))
    assert [dataset.num_objects(0) for dataset in datasets.values()] == [2, 2]
    plain, dropping = prepare_data(data(root)), prepare_data(data(root, drop_invalid=True))
    assert dropping == plain


@pytest.mark.parametrize(("change", "line"), DROPPED_ANNOTATIONS)
def test_a_broken_annotation_is_refused_or_left_out(root: Path, change: Change, line: str, capsys) -> None:
    change_val(root, change)
    (only,) = refusal(root)
    assert only.startswith(f"{annotation_file(root, 'val')}: ")
    assert line in only
    assert "; " in only
    datasets = load_and_measure(data(root, drop_invalid=True))
    assert len(datasets["val"]) == 3
    objects = sum(datasets["val"].num_objects(index) for index in range(3))
    assert objects in (5, 6)
    said = capsys.readouterr().err
    assert "left out 0 images and 1 annotations" in said
    assert line in said


@pytest.mark.parametrize(("change", "line"), DROPPED_IMAGES)
def test_a_broken_image_entry_is_refused_or_left_out_with_its_annotations(
    root: Path, change: Change, line: str
) -> None:
    change_val(root, change)
    text = "\n".join(refusal(root))
    assert line in text
    # Its annotations are not at fault; but where its id is another, nobody knows which they are.
    assert "unknown image_id" not in text or line.startswith("id ")
    assert text.startswith(f"{annotation_file(root, 'val')}: ")
    dataset = load_and_measure(data(root, drop_invalid=True))["val"]
    assert len(dataset) == dataset.image_ids.index(15) + 1 <= 2


@pytest.mark.parametrize(("change", "line"), REFUSED)
@pytest.mark.parametrize("drop_invalid", [False, True])
def test_what_cannot_be_left_out_is_refused(root: Path, change: Change, line: str, drop_invalid: bool) -> None:
    change_val(root, change)
    (only,) = refusal(root, drop_invalid=drop_invalid)
    assert line in only
    assert str(annotation_file(root, "val")) in only


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"images": [', "not valid JSON (Expecting value"),
        ('{"images": [1,]}', "; correct it or copy it again"),
        ("", "not valid JSON, the file is empty; copy it again"),
        (
            "version https://git-lfs.github.com/spec/v1\noid",
            "but a pointer of Git LFS; fetch the file with",
        ),
        ('{"name": "Stra\u00dfe"}'.encode("cp1252"), "not in UTF-8 (byte 0xdf at position 14); save it as UTF-8"),
        ("\x89PNG", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "holds a list, not an object"),
    ],
)
@pytest.mark.parametrize("drop_invalid", [False, True])
def test_what_is_no_annotations_file_is_refused(root: Path, text: str | bytes, line: str, drop_invalid: bool) -> None:
    annotation_file(root, "train").write_bytes(text if isinstance(text, bytes) else text.encode())
    (only,) = refusal(root, drop_invalid=drop_invalid)
    assert line in only


@pytest.mark.parametrize("drop_invalid", [False, True])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda content: [record.update(iscrowd=1) for record in content["annotations"]],
            "all of the 7 annotations that can be used are crowds (iscrowd 1), which are no objects",
        ),
        (
            lambda content: [image.pop("height") for image in content["images"]],
            "has no 'height': 3 images (id 11, id 12, id 15); COCO asks for id, file_name, width, height",
        ),
    ],
)
def test_the_cause_is_reported_and_not_what_follows_from_it(
    root: Path, change: Change, line: str, drop_invalid: bool
) -> None:
    change_val(root, change)
    lines = refusal(root, drop_invalid=drop_invalid)
    if not drop_invalid:
        assert len(lines) == 1
        assert line in lines[0]


def test_a_reference_to_a_refused_record_is_not_refused_itself(root: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["images"][0]["id"] = "first"
        content["categories"][0]["id"] = "cat"
        for record in content["annotations"]:
            record["image_id"] = "first" if record["image_id"] == 11 else record["image_id"]
            record["category_id"] = "cat" if record["category_id"] == 3 else record["category_id"]

    change_val(root, spoil)
    category, picture = refusal(root)
    assert "id is text: 1 category (id 'cat': name 'cat')" in category
    assert "id is text: 1 image (id 'first': file_name '11.png')" in picture


def spoil_pixels(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda file: file.unlink(), "lacks images: 1 image (id 12: '12.png'); restore them"),
        (lambda file: file.write_bytes(b""), "holds images that are empty: 1 image (id 12: '12.png'"),
        (
            lambda file: file.write_text("<!DOCTYPE html>404"),
            "holds images that are web pages: 1 image (id 12: '12.png'",
        ),
        (
            lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a"),
            "holds images that are pointers of Git LFS: 1 image (id 12: '12.png'); fetch them with `git lfs pull`",
        ),
        (
            lambda file: (file.unlink(), file.symlink_to("/no/where")),
            "lacks images: 1 image (id 12: '12.png' links to '/no/where')",
        ),
        (lambda file: file.write_bytes(b"GIF89a nonsense"), "holds images unreadable: 1 image (id 12: '12.png'"),
        (spoil_pixels, "holds images unreadable: 1 image (id 12: '12.png'"),
        (lambda file: Image.new("RGB", (HEIGHT, WIDTH)).save(file), "(id 12: '12.png' 30x40, annotated 40x30)"),
        (lambda file: Image.new("I;16", (WIDTH, HEIGHT)).save(file), "not of 8 bits a channel: 1 image (id 12: '12"),
    ],
)
def test_a_broken_image_file_is_refused_or_left_out(root: Path, spoil: Callable[[Path], object], line: str) -> None:
    prepare_data(data(root))  # Its result is remembered, and must not be believed any more.
    file = root / "train" / "12.png"
    whole = file.read_bytes()
    spoil(file)
    (only,) = refusal(root)
    assert line in only
    assert f"{root}/train" in only
    assert load_and_measure(data(root, drop_invalid=True))["train"].image_ids == [11, 15]
    file.unlink(missing_ok=True)
    file.write_bytes(whole)
    assert len(load_and_measure(data(root, drop_invalid=True))["train"]) == 3


def test_a_truncated_jpeg_is_found_by_its_end(root: Path) -> None:
    content = valid_content()
    content["images"][0]["file_name"] = "11.jpg"
    write(root, "train", content)
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = root / "train" / "11.jpg"
    Image.fromarray(noise).save(file)
    prepare_data(data(root))
    file.write_bytes(file.read_bytes()[:-200])
    (only,) = refusal(root)
    assert "unreadable: 1 image (id 11: '11.jpg' (image file is truncated" in only


def test_all_problems_of_both_splits_are_reported_at_once(root: Path) -> None:
    for split in ("train", "val"):
        content = valid_content()
        content["annotations"][0]["bbox"] = [0, 0, -1, 5]
        content["annotations"][1]["category_id"] = 91
        write(root, split, content)
    lines = refusal(root)
    assert len(lines) == 4
    assert len({line.split(":")[0] for line in lines}) == 2


def test_many_ids_are_counted_and_the_first_named(root: Path) -> None:
    change_val(root, lambda content: [record.update(category_id=8) for record in content["annotations"]])
    first = refusal(root)[0]
    assert "unknown category_id: 7 annotations (id 1: category_id 8, id 2: category_id 8," in first
    assert "id 5: category_id 8, ...)" in first
    assert "id 6" not in first


def test_cocos_own_oddities_are_notes(root: Path) -> None:
    """Boxes that stick out by rounding, and the two flat boxes of train2017 (cocodataset/cocoapi, issue 355)."""
    content = valid_content()
    content["annotations"][0]["bbox"] = [29.5, 5, 10.51, 4]
    content["annotations"][3] |= {"bbox": [9.98, 18.56, 5.54, 0.0], "area": 0.0}
    content["annotations"][3]["segmentation"] = [[9.98, 18.56, 15.52, 18.56, 15.52, 18.56, 11.09, 18.56]]
    write(root, "train", content)
    found = checked(root, "train", masks=True)
    assert found.errors == []
    assert not found.is_changed
    assert any("bbox of (nearly) zero width or height: 1 annotation (id 4" in str(note) for note in found.faults)
    train = load_and_measure(data(root))["train"]
    assert [train.num_objects(index) for index in range(3)] == [2, 1, 2]


def test_neither_area_nor_iscrowd_is_needed(root: Path) -> None:
    content = valid_content()
    for record in content["annotations"]:
        del record["area"]
    del content["annotations"][0]["iscrowd"]
    write(root, "val", content)
    load_and_measure(data(root))
    notes = [str(note) for note in checked(root, "val", evaluated=True).faults]
    assert any("has no 'area', by which AP_S, AP_M and AP_L sort objects: 7 annotations" in note for note in notes)


def test_another_node_makes_the_same_cleaned_set(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_val(root, annotation(0, bbox=[4, 5, -3, 4]))
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    dropping = data(root, drop_invalid=True)
    prepared = prepare_data(dropping)
    assert prepared.root != str(root)
    assert prepared.fingerprint == fingerprint(data(root, drop_invalid=True))
    assert prepare_data(dropping, expected=prepared.fingerprint) == prepared
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    there = prepare_data(dropping, expected=prepared.fingerprint)
    assert Path(there.root).is_dir()
    assert there.root != prepared.root
    assert dataclasses.replace(there, root=prepared.root) == prepared
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before
    (root / "val" / "15.png").unlink()
    with pytest.raises(DataError, match=f"but the trial began with {prepared.fingerprint}"):
        prepare_data(dropping, expected=prepared.fingerprint)


def test_run_lengths_agree_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 40, 2).tolist()
        pixels = rng.random((height, width)) < rng.random()
        encoded: Any = mask_utils.encode(np.asfortranarray(pixels, dtype=np.uint8))
        counts = encoded["counts"].decode()
        assert broken_run_lengths({"size": [height, width], "counts": counts}, width, height) == ""
        assert broken_run_lengths({"size": [height, width], "counts": counts[:-1]}, width, height) != ""
