"""Names of classes in a YOLO folder: text, by the labels' numbers, or a refusal; never another class."""

from pathlib import Path

import pytest

from dynrcnn_ray.data.annotations import DataError
from dynrcnn_ray.tools.convert.convert import convert_to_coco
from tests.tools.test_convert import content, draw, write


def one_image(root: Path, names: str, numbers: tuple[int, ...]) -> Path:
    draw(root / "images" / "train" / "a.png")
    write(root / "labels" / "train" / "a.txt", "".join(f"{number} 0.5 0.5 0.2 0.4\n" for number in numbers))
    write(root / "data.yaml", names)
    return root


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("names: [cat, dog]", {0: "cat", 1: "dog"}),
        ("names: {0: cat, 2: dog, 5: cow}", {0: "cat", 2: "dog", 5: "cow"}),
        ("names: {1: cat, 2: dog}", {1: "cat", 2: "dog"}),
        ("names:\n  10: ten\n  9: nine\n  '2': two\n", {2: "two", 9: "nine", 10: "ten"}),
        # Each name has its number.
        ("names: {zebra: 0, ant: 1}", {0: "zebra", 1: "ant"}),
        ("names: [no, yes, on, Off, true, null, ~]", dict(enumerate(["no", "yes", "on", "Off", "true", "null", "~"]))),
        (
            "names: [007, 1e3, 0x10, 1:30, 2024-01-01, .5]",
            dict(enumerate(["007", "1e3", "0x10", "1:30", "2024-01-01", ".5"])),
        ),
        ("names: ['Straße', \"a: b\"]", {0: "Straße", 1: "a: b"}),
    ],
)
def test_names_are_text_and_keys_are_the_numbers_of_the_labels(
    tmp_path: Path, names: str, classes: dict[int, str]
) -> None:
    root = one_image(tmp_path / "yolo", names, tuple(classes))
    convert_to_coco(root, tmp_path / "coco")
    written = content(tmp_path / "coco", "train")
    name_of = {category["id"]: category["name"] for category in written["categories"]}
    assert [name_of[record["category_id"]] for record in written["annotations"]] == list(classes.values())
    assert list(name_of.values()) == list(classes.values())


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ("names: {0: cat, dog: 1}", "'dog' is no class number"),
        ("names: {0: cat, 0: dog}", "the number 0 is given twice"),
        ("names: {0: cat, 00: dog}", "the number 0 is given twice"),
        ("names: [cat, cat]", "the name 'cat' is given twice"),
        ("names: {-1: cat}", "'-1' is no class number"),
        ("names: {0.5: cat}", "'0.5' is no class number"),
        ("names: [cat, [dog]]", "class '1' has no text for a name"),
        ("names: {0: , 1: dog}", "class '0' has no text for a name"),
        ("names: []", "names is empty"),
        ("names: [cat]\nnames: [dog]", r"data\.yaml: 'names' stands twice; keep one of the two"),
        ("names: [cat]\ntrain: images/train\ntrain: images/more", r"data\.yaml: 'train' stands twice; keep one"),
        ("names: [cat]\nval: a\nvalid: b", "val names 'a' and valid names 'b', which are one split; take one line out"),
        ("names: cat", "names is neither a list nor a mapping"),
        ("names: [cat", "is not YAML that can be read"),
        ("[cat, dog]", r"has no \.yaml file with the names of the classes"),
    ],
)
def test_what_is_no_list_of_classes_is_refused_in_a_line(tmp_path: Path, names: str, problem: str) -> None:
    root = one_image(tmp_path / "yolo", names, (0,))
    with pytest.raises(DataError, match=problem) as caught:
        convert_to_coco(root, tmp_path / "coco")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "coco").exists()


def test_a_class_without_a_name_is_refused_also_where_numbers_have_holes(tmp_path: Path) -> None:
    root = one_image(tmp_path / "yolo", "names: {0: cat, 2: dog, 5: cow}", (2, 1))
    with pytest.raises(DataError, match=r"a\.txt: line 2 .* is of class 1, but .* names 0, 2, 5; correct one of them"):
        convert_to_coco(root, tmp_path / "coco")


def test_settings_of_a_training_are_no_names(tmp_path: Path) -> None:
    root = one_image(tmp_path / "yolo", "names: [cat, dog]", (1,))
    (root / "data.yaml").rename(root / "pets.yaml")
    write(root / "args.yaml", "task: detect\nepochs: 100\n")
    write(root / "broken.yaml", "a: [")
    convert_to_coco(root, tmp_path / "coco")
    assert [category["name"] for category in content(tmp_path / "coco", "train")["categories"]] == ["cat", "dog"]
    write(root / "others.yaml", "names: [dog, cat]")
    with pytest.raises(DataError, match=r"several files name classes: others\.yaml, pets\.yaml; keep one"):
        convert_to_coco(root, tmp_path / "again")
