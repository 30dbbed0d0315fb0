"""YOLO and VOC folders become COCO data sets that a run takes: every box, class, mask and split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.tools.convert.command import COMMAND
from dynrcnn_ray.tools.convert.convert import convert_to_coco
from tests.cli.calls import call

WIDTH, HEIGHT = 40, 20


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def draw(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(file)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def yolo(root: Path, images: str, labels: str, splits: tuple[str, ...]) -> None:
    for split in splits:
        for name in ("a", "b", "empty"):
            draw(root / images.format(split) / f"{name}.png")
        write(root / labels.format(split) / "a.txt", "1 0.5 0.5 0.2 0.4\n0 0.25 0.25 0.1 0.1\n")
        write(root / labels.format(split) / "b.txt", "1 0.1 0.1 0.6 0.1 0.6 0.6 0.1 0.6\n")
    write(root / "data.yaml", "names: [cat, dog]\nnc: 2\n")


def voc_file(objects: list[tuple[str, int]]) -> str:
    boxes = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox><xmin>{5 + at}</xmin><ymin>3</ymin><xmax>{14 + at}</xmax><ymax>12</ymax></bndbox></object>"
        for at, (name, difficult) in enumerate(objects)
    )
    return f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{boxes}</annotation>"


def content(out: Path, split: str) -> dict[str, Any]:
    return json.loads((out / "annotations" / f"instances_{split}.json").read_text())


@pytest.mark.parametrize(
    ("images", "labels", "val"),
    [("images/{}", "labels/{}", "val"), ("{}/images", "{}/labels", "valid")],
)
def test_yolo(tmp_path: Path, images: str, labels: str, val: str) -> None:
    yolo(tmp_path / "yolo", images, labels, ("train", val))
    out = tmp_path / "coco"
    assert convert_to_coco(tmp_path / "yolo", out) == {"train": 3, "val": 3}
    written = content(out, "val")
    assert [(category["id"], category["name"]) for category in written["categories"]] == [(1, "cat"), (2, "dog")]
    boxes = [(record["image_id"], record["category_id"], record["bbox"]) for record in written["annotations"]]
    assert boxes[:2] == [(1, 2, [16.0, 6.0, 8.0, 8.0]), (1, 1, [8.0, 4.0, 4.0, 2.0])]
    assert boxes[2] == (2, 2, [4.0, 2.0, 20.0, 10.0])
    mask: Any = written["annotations"][2]["segmentation"]
    assert np.argwhere(mask_utils.decode(mask)).tolist()[0] == [2, 4]
    assert "segmentation" not in written["annotations"][0]
    prepared = prepare_data(DataConfig(root=str(out)))
    dataset = CocoDataset(prepared.root, "val")
    assert [dataset.num_objects(index) for index in range(3)] == [2, 1, 0]


def test_voc(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    labels = {"1": [("dog", 0), ("cat", 1)], "2": [("emu", 0)], "3": [("cat", 0)]}
    for name, objects in labels.items():
        draw(root / "JPEGImages" / f"{name}.jpg")
        write(root / "Annotations" / f"{name}.xml", voc_file(objects))
    write(root / "ImageSets" / "Main" / "train.txt", "1\n2\n")
    write(root / "ImageSets" / "Main" / "val.txt", "3 1\n")
    assert convert_to_coco(root, tmp_path / "coco") == {"train": 2, "val": 1}
    train, val = (content(tmp_path / "coco", split) for split in ("train", "val"))
    assert train["categories"] == val["categories"]
    names = {category["id"]: category["name"] for category in train["categories"]}
    found = [(names[record["category_id"]], record["bbox"], record["iscrowd"]) for record in train["annotations"]]
    # VOC counts pixels from 1, both borders included; what it calls difficult counts for nothing.
    assert found == [
        ("dog", [4.0, 2.0, 10.0, 10.0], 0),
        ("cat", [5.0, 2.0, 10.0, 10.0], 1),
        ("emu", [4.0, 2.0, 10.0, 10.0], 0),
    ]
    assert [image["file_name"] for image in val["images"]] == ["3.jpg"]
    assert prepare_data(DataConfig(root=str(tmp_path / "coco"))).fingerprint


@pytest.mark.parametrize(
    ("names", "ids"), [(["10", "2", "007"], [7, 10, 2]), (["1", "01"], [1, 2]), (["1", "a"], [1, 2]), (["9" * 16], [1])]
)
def test_numbers_in_names_are_the_ids_as_in_yolos_results(tmp_path: Path, names: list[str], ids: list[int]) -> None:
    for name in names:
        draw(tmp_path / "yolo" / "images" / "train" / f"{name}.png")
        write(tmp_path / "yolo" / "labels" / "train" / f"{name}.txt", "0 0.5 0.5 0.2 0.4\n")
    write(tmp_path / "yolo" / "data.yaml", "names: [cat]\n")

    convert_to_coco(tmp_path / "yolo", tmp_path / "coco")

    written = content(tmp_path / "coco", "train")
    assert [image["file_name"] for image in written["images"]] == [f"{name}.png" for name in sorted(names)]
    assert [image["id"] for image in written["images"]] == ids
    assert [record["image_id"] for record in written["annotations"]] == ids


def test_boxes_of_voc_for_an_image_of_another_size_are_refused(tmp_path: Path) -> None:
    """The image was resized after it was labelled."""
    draw(tmp_path / "voc" / "1.jpg")
    sizes = ((WIDTH, HEIGHT, True), (0, 0, True), (" ", "none", True), (2 * WIDTH, 2 * HEIGHT, False))
    for width, height, is_fine in sizes:
        text = voc_file([("cat", 0)]).replace(f"<width>{WIDTH}", f"<width>{width}")
        write(tmp_path / "voc" / "1.xml", text.replace(f"<height>{HEIGHT}", f"<height>{height}"))
        if is_fine:
            assert convert_to_coco(tmp_path / "voc", tmp_path / f"coco_{height}") == {"train": 1}
            continue
        with pytest.raises(
            DataError, match=r"1\.xml: its boxes are for an image of 80x40 pixels, but .*1\.jpg has 40x20"
        ):
            convert_to_coco(tmp_path / "voc", tmp_path / "coco")


def test_boxes_of_voc_may_be_for_the_pixels_as_they_are_stored(tmp_path: Path) -> None:
    """A camera held upright stores them lying on their side; the size says what the boxes mean."""
    (tmp_path / "voc").mkdir()
    tags = Image.Exif()
    tags[0x0112] = 6
    pixels = Image.new("RGB", (WIDTH, HEIGHT))
    pixels.paste((255, 0, 0), (4, 2, 14, 12))
    for split in ("train", "val"):
        (tmp_path / "voc" / split).mkdir()
        pixels.save(tmp_path / "voc" / split / "1.png", exif=tags)
        write(tmp_path / "voc" / split / "1.xml", voc_file([("cat", 0)]))
    convert_to_coco(tmp_path / "voc", tmp_path / "coco")

    dataset = CocoDataset(prepare_data(DataConfig(root=str(tmp_path / "coco"))).root, "train")

    image, target = dataset[Sample(0, flip=False)]
    left, top, right, bottom = target["boxes"][0].int().tolist()
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image[0, top:bottom, left:right].min() > 200
    assert image[0].float().sum() == image[0, top:bottom, left:right].float().sum()


def test_boxes_of_voc_that_begin_at_zero_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "voc" / "1.jpg")
    write(tmp_path / "voc" / "1.xml", voc_file([("cat", 0), ("cat", 0)]).replace("<xmin>5<", "<xmin>0<"))

    convert_to_coco(tmp_path / "voc", tmp_path / "coco")

    assert "1 of 2 boxes begin at pixel 0, and VOC counts from 1; if the tool" in capsys.readouterr().err


def test_a_list_of_voc_names_images_in_any_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["IMG (1)", "Screenshot 2026 1", "img0", "a.b", "plain"]
    for name in names:
        draw(tmp_path / "voc" / "JPEGImages" / f"{name}.jpg")
        write(tmp_path / "voc" / "Annotations" / f"{name}.xml", voc_file([("cat", 0)]))
    lists = tmp_path / "voc" / "ImageSets" / "Main"
    write(lists / "train.txt", "IMG (1)\nScreenshot 2026 1\nimg0.jpg\na.b\nplain 1\ngone\n")
    assert convert_to_coco(tmp_path / "voc", tmp_path / "coco") == {"train": 5}
    assert capsys.readouterr().err == (
        f"note: {lists}/train.txt: 1 of 6 images that it lists are not there, such as 'gone'; left out\n"
    )


def test_a_call_that_fails_is_in_nobodys_way(tmp_path: Path) -> None:
    yolo(tmp_path / "yolo", "images/{}", "labels/{}", ("train", "val"))
    image = tmp_path / "yolo" / "images" / "val" / "b.png"
    content_of_image = image.read_bytes()
    image.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"yolo/images/val/b\.png"):
        convert_to_coco(tmp_path / "yolo", tmp_path / "deep" / "coco")
    assert {file.name for file in tmp_path.iterdir()} <= {"yolo", "cache"}
    image.write_bytes(content_of_image)
    (tmp_path / "coco").mkdir()
    assert convert_to_coco(tmp_path / "yolo", tmp_path / "coco") == {"train": 3, "val": 3}
    written = content(tmp_path / "coco", "val")
    assert [record["image_id"] for record in written["annotations"]] == [1, 1, 2]


def test_where_it_goes_is_asked_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    nothing = tmp_path / "no such folder"
    for out, problem in (
        (tmp_path / "file", "holds something already"),
        (tmp_path, "holds something already"),
        (tmp_path / "file" / "deep" / "coco", f"cannot be made: {tmp_path}/file is no folder"),
        (Path("/proc/coco"), r"cannot be made \(/proc: "),
    ):
        with pytest.raises(DataError, match=f"^{out}: {problem}.*; give a") as caught:
            convert_to_coco(nothing, out)
        assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_classes_of_voc_splits_are_joined(tmp_path: Path) -> None:
    for split, name in (("train", "zebra"), ("valid", "ant")):
        draw(tmp_path / "voc" / split / "1.jpg")
        write(tmp_path / "voc" / split / "1.xml", voc_file([(name, 0)]))
    convert_to_coco(tmp_path / "voc", tmp_path / "coco")
    train, val = (content(tmp_path / "coco", split) for split in ("train", "val"))
    assert [category["name"] for category in train["categories"]] == ["zebra", "ant"]
    assert [part["annotations"][0]["category_id"] for part in (train, val)] == [1, 2]


def test_the_command_converts_and_checks_a_set_of_one_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yolo(tmp_path / "yolo", "images", "labels", ("",))
    (tmp_path / "yolo" / "images" / "empty.png").unlink()
    assert call(COMMAND, str(tmp_path / "yolo"), "--output", str(tmp_path / "coco")) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'coco'}: 2 images of train" in out
    assert "1 of 2 images are held out for validation" in out
    assert "A run would take this data set." in out
    assert f"To train on it: --data.root {tmp_path / 'coco'} --data.val-fraction 0.2" in out


def test_what_cannot_be_converted_is_reported(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="is neither a YOLO nor a VOC data set"):
        convert_to_coco(tmp_path / "nothing", tmp_path / "out")
    yolo(tmp_path / "yolo", "images/{}", "labels/{}", ("train",))
    label = tmp_path / "yolo" / "labels" / "train" / "a.txt"
    label.write_text("0 0.5 0.5 0.2 0.4\n\n0 0.5 0.5 -0.2 0.4\n")
    with pytest.raises(DataError, match=r"train/a\.txt: line 3 cannot be read \(Invalid box extent") as caught:
        convert_to_coco(tmp_path / "yolo", tmp_path / "out")
    assert "\n" not in str(caught.value)
    label.write_text("7 0.5 0.5 0.2 0.4\n")
    with pytest.raises(DataError, match=r"a\.txt: line 1 .* is of class 7, but .*data\.yaml names 0 to 1; correct"):
        convert_to_coco(tmp_path / "yolo", tmp_path / "out")
    (tmp_path / "yolo" / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"has no \.yaml file with the names of the classes"):
        convert_to_coco(tmp_path / "yolo", tmp_path / "out2")
