"""The command `check-data`: faults, a summary, what a trial would see, what would suit it, and the exit code."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from dynrcnn_ray.execution import check_body
from dynrcnn_ray.execution.check_command import COMMAND
from tests.cli.calls import call

COCO_AS_HERE = ("--scale", "coco", "--data.train-split", "train", "--data.val-split", "val")


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "slow" not in request.keywords:
        monkeypatch.setattr(check_body, "time_lines", lambda config, inputs: "(not measured)")


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


def test_a_sound_set_is_summed_up_and_told_which_rank_would_do(capsys, root: Path):
    code, out = check(capsys, root)
    assert code == 0
    assert "train: 2/2 images read" in out
    assert "val: 2 images, 6 objects, 0 crowds, 1 categories" in out
    assert "objects per image: median 3, 90 % have at most 3, the most 3; 0 images have none" in out
    assert "100% of the images with objects hold K_beta = 3 of them or more (that is 10 of 512 RoIs)" in out
    # 14 of 512 are 3.5 of 128.
    assert "the smallest that fewer than half of the images reach: --dynamic.beta-top-k 14\n" in out
    assert "hold K_I" not in out
    assert "error:" not in out
    # The paper's ranks are those of 512 RoIs.
    assert "hold K_beta" not in check(capsys, root, *COCO_AS_HERE)[1]


def test_starting_ranks_go_with_the_objects_and_are_never_useless(capsys, root: Path):
    _, out = check(capsys, root)
    ranks = "--dynamic.beta-top-k 16 --dynamic.iou-top-k 110"
    assert f"start from: {ranks}\n" in out
    assert "at 3.0 objects an image and 128 RoIs, what the paper's 75 and 10 measure at COCO's 7.3 of 512" in out
    assert f"dynrcnn train --data.root {root} --model.anchor-sizes 8 16 32 64 128 {ranks}\n" not in out
    grid = "grid --name my_k_i --axis dynamic.iou-top-k 55 75 110 220 --baseline dynamic.dla=false dynamic.dsl=false"
    assert f"{grid} --seeds 0 1 2 --data.root {root} --dynamic.beta-top-k 16\n" in out
    proposed = out.partition("how long that takes:\n  dynrcnn train ")[2].splitlines()[0].split()
    _, out = check(capsys, root, *proposed[2:])
    assert "hold K" not in out, "what was proposed is not useless"
    assert "dynrcnn" not in out, "and nothing else is proposed"
    with_copies(root, 2)
    _, out = check(capsys, root)
    assert "objects per image: median 6" in out
    assert "start from: --dynamic.beta-top-k 33 --dynamic.iou-top-k 180\n" in out
    assert "the smallest that fewer than half of the images reach: --dynamic.beta-top-k 26\n" in out
    _, out = check(capsys, root, *COCO_AS_HERE)
    assert "start from" not in out, "the paper's own values fit"
    # No image has a RoI of a rank beyond 512.
    with_copies(root, 10)
    _, out = check(capsys, root)
    assert "start from: --dynamic.beta-top-k 329 --dynamic.iou-top-k 512\n" in out
    assert "T_now follows the appended ground truths alone" in out
    assert "--axis dynamic.iou-top-k 256 512 --baseline" in out, "75 of 512 RoIs are 19, and every image holds 60"
    _, out = check(capsys, root, *COCO_AS_HERE)
    assert "start from: --dynamic.beta-top-k 82 --dynamic.iou-top-k 360\n" in out
    assert "--axis dynamic.iou-top-k 75 180 360 512 --baseline" in out


def test_where_no_rank_helps_the_ground_truths_are_not_counted(capsys, root: Path):
    with_copies(root, 50)
    _, out = check(capsys, root)
    assert "no --dynamic.beta-top-k helps" in out
    assert f"dynrcnn train --data.root {root} --dynamic.no-count-ground-truths\n" in out
    assert "grid" not in out
    _, out = check(capsys, root, "--dynamic.no-count-ground-truths")
    assert "K_beta" not in out


def test_ranks_that_nothing_reads_are_not_judged(capsys, root: Path):
    _, out = check(capsys, root, "--model.name", "fcos", "--dynamic.no-dla", "--dynamic.no-dsl")
    assert "K_beta" not in out
    assert "grid" not in out


def test_small_objects_are_told_with_sizes_that_would_fit(capsys, root: Path):
    """Objects of 8 of 40x30 pixels, in images of 240x180."""
    for file in (*(root / "train").iterdir(), *(root / "val").iterdir()):
        Image.new("RGB", (240, 180)).save(file)
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        content["images"] = [image | {"width": 240, "height": 180} for image in content["images"]]
        file.write_text(json.dumps(content))
    _, out = check(capsys, root)
    # The long side limits: 128 of 240 pixels.
    assert "gets them: median 4 pixels a side, 100% below the smallest anchor (16), 100% below 8 pixels\n" in out
    sizes = "--data.short-side 256 --data.long-side 256 --model.anchor-sizes 8 16 32 64 128"
    assert f"sizes that would fit: {sizes}\n" in out
    assert "with them: median 9 pixels a side, 0% below the smallest anchor (8), 0% below 8 pixels" in out
    assert "4.0 times the pixels" in out
    assert f"dynrcnn train --data.root {root} {sizes} --dynamic" in out
    # As it may be typed: the limit of the long side follows.
    _, out = check(capsys, root, "--data.short-side", "256", "--model.anchor-sizes", "8", "16", "32", "64", "128")
    assert "median 9 pixels a side, 0% below the smallest anchor (8), 0% below 8 pixels\n" in out
    assert "sizes that would fit" not in out
    _, out = check(capsys, root, "--scale", "photos")
    assert "median 14 pixels a side, 100% below the smallest anchor (32), 0% below 8 pixels\n" in out
    assert "sizes that would fit: --data.short-side 736 --data.long-side 1248\n" in out
    assert f"--scale photos --data.root {root} --data.short-side 736 --data.long-side 1248" in out.replace(
        f"--data.root {root} --scale photos", f"--scale photos --data.root {root}"
    )
    assert "--train.steps 500" in out


@pytest.mark.slow
def test_how_long_a_training_takes_is_measured_by_a_few_steps(capsys, root: Path):
    options = ("--model.name", "mask_rcnn", "--scale", "smoke", "--train.steps", "1000")
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        for record in content["annotations"]:
            x, y, width, height = record["bbox"]
            record["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
        file.write_text(json.dumps(content))
    code, out = check(capsys, root, *options)
    assert code == 0
    lines = out[out.index("time: ") :].splitlines()
    assert re.match(r"time: 1000 steps take about \d+ (s|min) here, and the test \d+ s$", lines[0])
    assert re.match(r"  timed just now, \d x 2 of these images .*; a worker has 2 a step$", lines[1])
    _, out = check(capsys, root, *options, "--run.gpu", "1")
    assert "time: not measured, as run.gpu asks for a GPU, and this machine has none" in out or "timed just now" in out


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
    assert f"is in the format of {kind}, convert it: dynrcnn convert-data '{root}' --output NEW_FOLDER" in out
