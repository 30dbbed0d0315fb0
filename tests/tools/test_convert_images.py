"""No image of a YOLO or VOC folder is lost in silence: it is in a split, or counted in a note."""

from pathlib import Path

import pytest
from PIL import Image

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.tools.convert.command import COMMAND
from dynrcnn_ray.tools.convert.convert import convert_to_coco
from tests.cli.calls import call
from tests.tools.test_convert import content, draw, voc_file, write

BOX = "0 0.5 0.5 0.2 0.4\n"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def labelled(root: Path, *images: str) -> None:
    """Images with one object each, their labels where YOLO has them."""
    for image in images:
        draw(root / image)
        write((root / image.replace("images", "labels")).with_suffix(".txt"), BOX)


def names(out: Path, split: str) -> list[str]:
    return [image["file_name"] for image in content(out, split)["images"]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "yolo" / "data.yaml", "names: [cat]\n")
    return tmp_path / "yolo"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "coco"


def test_splits_with_a_year_and_folders_below_them(root: Path, out: Path) -> None:
    labelled(root, "images/train2017/a.png", "images/train2017/deep/er/a.png", "images/val2017/b.png")
    assert convert_to_coco(root, out) == {"train": 2, "val": 1}
    assert names(out, "train") == ["a.png", "deep/er/a.png"]
    assert prepare_data(DataConfig(root=str(out))).fingerprint
    assert [record["image_id"] for record in content(out, "train")["annotations"]] == [1, 2]
    labelled(root, "images/train2014/c.png")
    with pytest.raises(DataError, match=r"train2014, .*train2017: each may be the split train; rename or remove"):
        convert_to_coco(root, out.with_name("again"))


def test_a_folder_of_one_split_has_folders_too(root: Path, out: Path) -> None:
    labelled(root, "images/monday/a.png", "images/tuesday/a.png")
    assert convert_to_coco(root, out) == {"train": 2}
    assert names(out, "train") == ["monday/a.png", "tuesday/a.png"]


@pytest.mark.parametrize("suffix", [".gif", ".jfif", ".ppm", ".pgm", ".jp2", ".avif", ".tif", ".webp", ".JPG", ".bmp"])
def test_every_kind_of_image_that_can_be_read_is_taken(root: Path, out: Path, suffix: str) -> None:
    labelled(root, "images/train/a.png", f"images/train/b{suffix}")
    assert convert_to_coco(root, out) == {"train": 2}
    assert len(content(out, "train")["annotations"]) == 2
    with Image.open(out / "train" / f"b{suffix}") as image:
        assert image.size == (40, 20)


def test_what_is_in_no_split_is_counted(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(root, "images/train/a.png", "images/train/b.png", "images/loose.png", "images/old/c.png")
    (root / "labels" / "train" / "b.txt").unlink()
    write(root / "images" / "train" / "photo.heic", "not read here")
    write(root / "labels" / "train" / "gone.txt", BOX)
    assert convert_to_coco(root, out) == {"train": 2}
    assert capsys.readouterr().err.splitlines() == [
        f"note: {root}/images/train: 1 of 2 images have no file of labels, such as 'b.png'; taken as images without "
        "objects",
        f"note: {root}: 2 images are in no split, such as 'images/loose.png'; left out",
        f"note: {root}: 1 file is beside the images that cannot be read as one: 1 .heic; left out",
        f"note: {root}: 1 file of labels has no image, such as 'labels/train/gone.txt'; left out",
    ]


def test_a_split_without_labels_is_refused_and_a_test_split_is_left_out(
    root: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(root, "images/train/a.png")
    draw(root / "images" / "test" / "t.png")
    assert convert_to_coco(root, out) == {"train": 1}
    assert "images/test: none of the 1 images of the split test has labels" in capsys.readouterr().err
    draw(root / "images" / "val" / "b.png")
    for make_folder in (False, True):
        if make_folder:
            (root / "labels" / "val").mkdir()
        with pytest.raises(DataError, match=r"images/val: none of the 1 images of the split val has labels; add them"):
            convert_to_coco(root, out.with_name("again"))
        assert not out.with_name("again").exists()


def test_what_data_yaml_names_is_followed(root: Path, out: Path) -> None:
    labelled(root, "a/images/1.png", "b/images/1.png", "c/images/2.png", "images/val/not_named.png")
    write(root / "data.yaml", "names: [cat]\ntrain: [a/images, ../b/images]\nval: c/images\ntest:\n")
    assert convert_to_coco(root, out) == {"train": 2, "val": 1}
    assert names(out, "train") == ["a/images/1.png", "b/images/1.png"]
    assert names(out, "val") == ["2.png"]


def test_lists_of_images_are_followed(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(root, *(f"images/all/{name}.png" for name in "abcd"))
    write(root / "data.yaml", "path: ../datasets/pets\ntrain: lists/train.txt\nval: lists/val.txt\nnames: [cat]\n")
    write(
        root / "lists" / "train.txt", "\ufeff./images/all/a.png\n/content/yolo/images/all/b.png\nimages/all/gone.png\n"
    )
    write(root / "lists" / "val.txt", "../images/all/c.png\n")
    assert convert_to_coco(root, out) == {"train": 2, "val": 1}
    assert names(out, "train") == ["a.png", "b.png"]
    err = capsys.readouterr().err
    assert f"{root}/lists/train.txt: 1 of 3 images that it lists are not there, such as 'images/all/gone.png'" in err
    assert f"{root}: 1 image is in no split, such as 'images/all/d.png'; left out" in err


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("train: train.txt", "train names 'train.txt', which is not there; correct the line or take it out"),
        ("train: images/train\nval: ../valid/images", "val names '../valid/images', which is not there"),
        ("train: images", "train names 'images', which holds no images"),
        ("train: {a: b}", "train holds"),
    ],
)
def test_what_is_named_and_not_there_is_no_other_folder(root: Path, out: Path, lines: str, problem: str) -> None:
    labelled(root, "images/train/a.png")
    if lines == "train: images":
        (root / "images").rename(root / "pictures")
        (root / "images").mkdir()
    write(root / "data.yaml", f"names: [cat]\n{lines}\n")
    with pytest.raises(DataError, match=problem):
        convert_to_coco(root, out)


def test_folders_behind_links_are_followed_and_not_in_circles(root: Path, out: Path) -> None:
    labelled(root, "images/train/a.png", "elsewhere/b.png")
    (root / "images" / "train" / "more").symlink_to(root / "elsewhere")
    (root / "images" / "train" / "up").symlink_to(root / "images")
    write(root / "labels" / "train" / "more" / "b.txt", BOX)
    assert convert_to_coco(root, out) == {"train": 2}
    assert names(out, "train") == ["a.png", "more/b.png"]


def voc_image(root: Path, name: str) -> None:
    draw(root / "JPEGImages" / f"{name}.jpg")
    write(root / "Annotations" / f"{name}.xml", voc_file([("cat", 0)]))


@pytest.mark.parametrize(
    ("lists", "counts"),
    [
        ({"trainval": "1 2", "test": "3"}, {"train": 2, "test": 1}),
        ({"trainval": "1 2 3", "val": "3"}, {"train": 2, "val": 1}),
        ({"train": "1", "val": "2", "trainval": "1 2", "test": "3"}, {"train": 1, "val": 1, "test": 1}),
        ({"train": "1 2", "valid": "3"}, {"train": 2, "val": 1}),
    ],
)
def test_lists_of_voc_as_its_years_have_them(
    tmp_path: Path, out: Path, lists: dict[str, str], counts: dict[str, int]
) -> None:
    root = tmp_path / "voc"
    for name in "123":
        voc_image(root, name)
    for name, images in lists.items():
        write(root / "ImageSets" / "Main" / f"{name}.txt", "\n".join(images.split()) + "\n")
    assert convert_to_coco(root, out) == counts


def test_images_that_no_list_of_voc_names_are_counted(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "voc"
    for name in ("1", "2", "deep/3"):
        voc_image(root, name)
    write(root / "ImageSets" / "Main" / "train.txt", "1\ndeep/3\n")
    write(root / "Annotations" / "gone.xml", voc_file([]))
    assert convert_to_coco(root, out) == {"train": 2}
    assert capsys.readouterr().err.splitlines() == [
        f"note: {root}: 1 image is in no split, such as 'JPEGImages/2.jpg'; left out",
        f"note: {root}: 1 file of labels has no image, such as 'Annotations/gone.xml'; left out",
    ]


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"<annotation><object></annotation>", "mismatched tag"),
        (b"<annotation><object><name>cat</name></object></annotation>", "Missing bndbox"),
        (b"<annotation><filename>a & b</filename></annotation>", "not well-formed"),
        ("<annotation><object><name>Straße</name></object></annotation>".encode("cp1252"), "not well-formed"),
        (b"", "no element found"),
        (b"<html></html>", "its root is <html>, not <annotation>"),
        (
            voc_file([("cat", 0)]).replace("<xmin>5", "<xmin>five").encode(),
            "Invalid 'xmin' value 'five'",
        ),
    ],
)
def test_broken_xml_among_many_is_named_by_its_file(tmp_path: Path, out: Path, broken: bytes, why: str) -> None:
    root = tmp_path / "voc"
    for name in ("1", "2", "3"):
        voc_image(root, name)
    (root / "Annotations" / "2.xml").write_bytes(broken)
    with pytest.raises(DataError, match=rf"^{root}/Annotations/2\.xml: is no VOC annotation \({why}.*correct or re"):
        convert_to_coco(root, out)
    assert not out.exists()
    (root / "Annotations" / "3.xml").write_bytes(broken)
    with pytest.raises(DataError) as caught:
        convert_to_coco(root, out)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        f"{root}/Annotations/{name}.xml" for name in (2, 3)
    ]


def test_the_test_split_is_checked_too(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(root, *(f"images/{split}/{split}.png" for split in ("train", "val", "test")))
    write(root / "labels" / "test" / "test.txt", "0 3.5 0.5 0.2 0.4\n")
    assert call(COMMAND, str(root), "--output", str(out)) == 2
    printed = capsys.readouterr().out
    assert f"{out}: 1 images of train, 1 images of val, 1 images of test" in printed
    assert f"error: {out}/annotations/instances_test.json: bbox outside its image" in printed
    write(root / "labels" / "test" / "test.txt", BOX)
    assert call(COMMAND, str(root), "--output", str(out.with_name("again"))) == 0
    assert "test: 1 images, 1 objects" in capsys.readouterr().out
