"""The command `check-data`: faults, a summary and the exit code."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dynrcnn_ray.data.check.command import COMMAND
from tests.cli.calls import call


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    (folder / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (folder / split).mkdir()
        images, annotations = [], []
        for image_id in (1, 2):
            Image.new("RGB", (40, 30)).save(folder / split / f"{image_id}.png")
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 40, "height": 30})
            for column in range(3):
                number = len(annotations) + 1
                bbox = [column * 10, 5, 8, 8]
                record = {"id": number, "image_id": image_id, "category_id": 4, "bbox": bbox, "area": 64, "iscrowd": 0}
                annotations.append(record)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "cell"}]}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def check(capsys: pytest.CaptureFixture[str], root: Path, *more: str) -> tuple[int, str]:
    code = call(COMMAND, "--data.root", str(root), *more)
    return code, capsys.readouterr().out


def test_a_sound_set_is_summed_up_and_told_which_rank_to_raise(capsys, root: Path):
    code, out = check(capsys, root)
    assert code == 0
    assert "train: 2/2 images read" in out
    assert "val: 2 images, 6 objects, 0 crowds, 1 categories" in out
    assert "objects per image: median 3, 90 % have at most 3, the most 3; 0 images have none" in out
    assert "100% of the images with objects hold K_beta = 3 of them or more" in out
    assert "raise --dynamic.beta-top-k" in out
    assert "raise --dynamic.iou-top-k" not in out
    assert "error" not in out
    # The paper's ranks are those of 512 RoIs.
    assert (
        "hold K_beta"
        not in check(capsys, root, "--scale", "coco", "--data.train-split", "train", "--data.val-split", "val")[1]
    )


def test_starting_values_are_in_proportion_to_the_objects(capsys, root: Path):
    """Blood cells have 13.6 objects an image: 150, as measured to take the loss away."""
    _, out = check(capsys, root)
    assert "start from: --dynamic.iou-top-k 30 --dynamic.beta-top-k 4. " in out
    assert "proportion: 3.0 objects an image here, 7 on COCO." in out
    assert "That K_beta is 1 at this scale, and 100% of the images with objects hold as many:\n" in out
    grid = "grid --name my_k_i --axis dynamic.iou-top-k 15 30 60 75 --baseline dynamic.dla=false dynamic.dsl=false"
    assert f"{grid} --dynamic.beta-top-k 4 --seeds 0 1 2 --data.root {root}\n" in out
    with_copies(root, 2)
    _, out = check(capsys, root)
    assert "objects per image: median 6" in out
    assert "start from" not in out, "the paper's own values fit"
    # No image has a RoI of a rank beyond 512.
    with_copies(root, 10)
    _, out = check(capsys, root)
    assert "start from: --dynamic.iou-top-k 512 --dynamic.beta-top-k 86. " in out
    assert "--axis dynamic.iou-top-k 75 256 512 --baseline" in out
    _, out = check(capsys, root, "--scale", "coco", "--data.train-split", "train", "--data.val-split", "val")
    assert "start from: --dynamic.iou-top-k 512 --dynamic.beta-top-k 86. " in out
    assert "That K_beta is" not in out, "86 of 512 are more than the 60 objects"


def with_copies(root: Path, times: int) -> None:
    """Every object so many times."""
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        copies = enumerate(content["annotations"] * times)
        content["annotations"] = [annotation | {"id": number + 1} for number, annotation in copies]
        file.write_text(json.dumps(content))


def test_every_pixel_is_read_and_problems_give_exit_code_2(capsys, root: Path):
    file = root / "val" / "2.png"
    content = file.read_bytes()
    middle = content.index(b"IDAT") + 10
    file.write_bytes(content[:middle] + bytes(4) + content[middle + 4 :])
    code, out = check(capsys, root)
    assert code == 2
    (line,) = [line for line in out.splitlines() if line.startswith("error")]
    assert "instances_val.json" in line
    assert "unreadable: 1 image (id 2: '2.png'" in line
    code, out = check(capsys, root, "--data.drop-invalid")
    assert code == 0
    assert "left out 1 images and 3 annotations" in out
    assert "val: 1 images, 3 objects" in out


def test_masks_are_demanded_on_request(capsys, root: Path):
    code, out = check(capsys, root, "--masks")
    assert code == 2
    assert (
        "no segmentation, which Mask R-CNN needs for every object: 6 annotations (id 1, id 2, id 3, id 4, id 5, ...)"
        in out
    )


def test_a_missing_file_is_reported_for_each_split(capsys, tmp_path: Path):
    code, out = check(capsys, tmp_path)
    assert code == 2
    assert out.count("cannot be read (No such file or directory); check data.root") == 2


def test_the_generated_set_is_sound(capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert call(COMMAND, "--scale", "smoke") == 0
    out = capsys.readouterr().out
    assert "6 categories (their ids have holes, which is fine)" in out
    assert "note" not in out


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([0, 2, 3], ["id 0: 1 annotation (id 0: image_id 1)"]),
        ([1, 1, 3], ["an id that is given several times: 2 annotations (id 1: image_id 1, id 1: image_id 1)"]),
        ([None, 2, 3], ["no id: 1 annotation (id None: image_id 1)"]),
        (["x", 2, 3], ["an id that is no whole number: 1 annotation (id 'x': image_id 1)"]),
        ([0, None, 0], ["id 0: 2 annotations (id 0: image_id 1, id 0: image_id 1)", "no id: 1 annotation"]),
    ],
)
def test_what_is_odd_about_an_id_is_reported(capsys, root: Path, numbers: list[object], told: list[str]):
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for record, number in zip(content["annotations"], numbers, strict=False):
        record["id"] = number
    file.write_text(json.dumps(content))
    code, out = check(capsys, root)
    assert code == 0
    notes = [line.removeprefix(f"note: {file}: ") for line in out.splitlines() if "pycocotools" in line]
    assert len(notes) == len(told)
    for line, expected in zip(notes, told, strict=True):
        assert line.startswith(expected)


def test_a_wrong_split_names_those_that_are_there(capsys, root: Path):
    code, out = check(capsys, root, "--data.train-split", "train2017")
    assert code == 2
    assert "instances_train2017.json: cannot be read (No such file or directory); " in out
    assert "there is no split 'train2017', but 'train', 'val': name one with --data.train-split" in out
    code, out = check(capsys, root / "no such folder")
    assert f"there is no folder {root}/no such folder, check data.root" in out


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("annotations/instances_{}.json", ["train2017", "val2017"]),
        ("{}/_annotations.coco.json", ["train", "valid"]),
        ("{}/labels.json", ["night", "day"]),
        ("annotations/{}.json", ["left", "right"]),
        ("{}.json", ["train", "test"]),
    ],
)
def test_splits_of_every_layout_are_named(capsys, root: Path, layout: str, names: list[str]):
    for old, new in zip(("train", "val"), names, strict=True):
        file = root / "annotations" / f"instances_{old}.json"
        (root / old).rename(root / "old")
        (root / "old").rename(root / new)
        (root / layout.format(new)).parent.mkdir(exist_ok=True)
        file.rename(root / layout.format(new))
    (root / "package.json").write_text("{}")
    code, out = check(capsys, root, "--data.train-split", "absent", "--data.val-split", "absent too")
    assert code == 2
    assert f"there is no split 'absent', but {', '.join(map(repr, sorted(names)))}: name one" in out


@pytest.mark.parametrize("kind", ["YOLO", "Pascal VOC"])
def test_a_folder_of_another_format_names_the_command_that_converts_it(capsys, tmp_path: Path, kind: str):
    root = tmp_path / "my data"
    if kind == "YOLO":
        for folder in ("images/train", "labels/train"):
            (root / folder).mkdir(parents=True)
    else:
        (root / "train").mkdir(parents=True)
        (root / "train" / "1.xml").touch()
    code, out = check(capsys, root)
    assert code == 2
    assert f"is in the format of {kind}, convert it: dynrcnn convert-data '{root}' NEW_FOLDER" in out
