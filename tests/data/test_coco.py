import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.data.coco import CocoDataset, DataError, Sample
from dynrcnn_ray.data.loader import eval_loader, train_loader
from dynrcnn_ray.data.sampler import TrainSampler

WIDTH, HEIGHT = 20, 10
SQUARE = [[2.0, 3.0, 6.0, 3.0, 6.0, 7.0, 2.0, 7.0]]


def compressed(mask: np.ndarray) -> dict[str, Any]:
    encoded: Any = mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    counts, value, run = [], 0, 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return {"size": list(mask.shape), "counts": [*counts, run]}


def annotation(number: int, image_id: int, category_id: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": 0, **more}


@pytest.fixture
def corner_mask() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[1:4, 15:20] = 1
    return mask


@pytest.fixture
def content(corner_mask: np.ndarray) -> dict[str, Any]:
    file_names = {70: "colour.jpg", 9: "grey.png", 8: "palette.png"}
    return {
        "images": [
            {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in file_names.items()
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 17, "name": "owl"}],
        "annotations": [
            annotation(1, 8, 17, [15, 1, 5, 3], segmentation=compressed(corner_mask)),
            annotation(2, 70, 90, [2, 3, 4, 4], segmentation=SQUARE),
            annotation(3, 70, 3, [0, 0, 20, 10], iscrowd=1, segmentation=uncompressed(corner_mask)),
            annotation(4, 70, 3, [15, 1, 5.75, 3], segmentation=uncompressed(corner_mask)),
            annotation(5, 70, 3, [20, 1, 0.5, 3], segmentation=SQUARE),
            annotation(6, 70, 3, [1, 1, 0, 3], segmentation=SQUARE),
        ],
    }


@pytest.fixture
def root(tmp_path: Path, content: dict[str, Any]) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    (tmp_path / "train").mkdir()
    picture.save(tmp_path / "train" / "colour.jpg")
    picture.convert("L").save(tmp_path / "train" / "grey.png")
    picture.quantize(16).save(tmp_path / "train" / "palette.png")
    (tmp_path / "annotations").mkdir()
    write(tmp_path, content)
    return tmp_path


def write(root: Path, content: Any) -> None:
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))


def test_labels_are_contiguous_by_ascending_category_id(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    assert dataset.category_ids == [3, 17, 90]
    assert dataset.class_names == ["dog", "owl", "cat"]
    assert dataset.image_ids == [70, 9, 8]
    assert dataset.sizes.tolist() == [[WIDTH, HEIGHT]] * 3
    assert dataset[Sample(0, False)][1]["labels"].tolist() == [3, 1]
    assert dataset[Sample(2, False)][1]["labels"].tolist() == [2]


def test_boxes_are_clipped_and_crowds_and_degenerate_boxes_dropped(root: Path) -> None:
    image, target = CocoDataset(root, "train")[Sample(0, False)]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert image.dtype == torch.uint8
    assert target["boxes"].dtype == torch.float32
    assert target["labels"].dtype == torch.int64
    assert target["boxes"].tolist() == [[2, 3, 6, 7], [15, 1, 20, 4]]
    assert target["image_index"] == 0
    assert "masks" not in target


def test_image_without_objects(root: Path) -> None:
    for flip in (False, True):
        _, target = CocoDataset(root, "train", include_masks=True)[Sample(1, flip)]
        assert target["boxes"].shape == (0, 4)
        assert target["labels"].shape == (0,)
        assert target["masks"].shape == (0, HEIGHT, WIDTH)
        assert target["masks"].dtype == torch.uint8


def test_split_without_annotations(root: Path, content: dict[str, Any]) -> None:
    write(root, content | {"annotations": []})
    assert CocoDataset(root, "train", include_masks=True)[Sample(0, True)][1]["boxes"].shape == (0, 4)


def test_masks_of_polygons_and_both_run_lengths(root: Path, corner_mask: np.ndarray) -> None:
    dataset = CocoDataset(root, "train", include_masks=True)
    masks = dataset[Sample(0, False)][1]["masks"]
    square = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    square[3:7, 2:6] = 1
    assert masks.dtype == torch.uint8
    assert np.array_equal(masks.numpy(), np.stack([square, corner_mask]))
    assert np.array_equal(dataset[Sample(2, False)][1]["masks"].numpy(), corner_mask[None])


def test_flip_is_exact(root: Path) -> None:
    dataset = CocoDataset(root, "train", include_masks=True)
    image, target = dataset[Sample(0, False)]
    flipped_image, flipped = dataset[Sample(0, True)]
    assert torch.equal(flipped_image, image.flip(-1))
    assert torch.equal(flipped["masks"], target["masks"].flip(-1))
    assert flipped["boxes"].tolist() == [[14, 3, 18, 7], [0, 1, 5, 4]]
    assert torch.equal(flipped["labels"], target["labels"])


def test_changing_a_target_does_not_change_the_data_set(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    dataset[Sample(0, True)][1]["boxes"].zero_()
    dataset[Sample(0, False)][1]["labels"].zero_()
    assert dataset[Sample(0, False)][1]["boxes"].tolist() == [[2, 3, 6, 7], [15, 1, 20, 4]]
    assert dataset[Sample(0, False)][1]["labels"].tolist() == [3, 1]


@pytest.mark.parametrize("index", [1, 2])
def test_grey_and_palette_images_become_rgb(root: Path, index: int) -> None:
    dataset = CocoDataset(root, "train")
    image, _ = dataset[Sample(index, False)]
    expected = np.array(Image.open(root / "train" / ["grey.png", "palette.png"][index - 1]).convert("RGB"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_pickles(root: Path) -> None:
    dataset = CocoDataset(root, "train", include_masks=True)
    image, target = pickle.loads(pickle.dumps(dataset))[Sample(0, True)]
    assert torch.equal(image, dataset[Sample(0, True)][0])
    assert torch.equal(target["masks"], dataset[Sample(0, True)][1]["masks"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, r"instances_train.json: the list 'images' is empty; at least one"),
        ({"categories": []}, r"the list 'categories' is empty"),
        ({"images": None}, r"has no list 'images'"),
        ({"categories": {}}, r"has no list 'categories'"),
        ({"annotations": None}, r"has no list 'annotations'"),
        (
            {"annotations": [annotation(7, 70, 4, [0, 0, 1, 1])]},
            r"unknown category_id: 1 annotation \(id 7: category_id 4\); correct",
        ),
        (
            {"annotations": [annotation(7, 71, 3, [0, 0, 1, 1])]},
            r"unknown image_id: 1 annotation \(id 7: image_id 71\); correct",
        ),
    ],
)
def test_unusable_content(root: Path, content: dict[str, Any], change: dict[str, Any], message: str) -> None:
    write(root, content | change)
    with pytest.raises(DataError, match=message) as caught:
        CocoDataset(root, "train")
    assert "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_annotations(root: Path, content: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"instances_val.json: cannot be read .* check data.root"):
        CocoDataset(root, "val")
    file = root / "annotations" / "instances_train.json"
    file.write_text(json.dumps(content)[:200])
    with pytest.raises(DataError, match=r"instances_train.json: not valid JSON .* truncated"):
        CocoDataset(root, "train")
    file.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match=r"not valid JSON"):
        CocoDataset(root, "train")
    write(root, [])
    with pytest.raises(DataError, match=r"holds a list, not an object"):
        CocoDataset(root, "train")


def test_masks_need_a_segmentation_of_the_right_size(root: Path, content: dict[str, Any]) -> None:
    write(root, content | {"annotations": [annotation(4, 70, 3, [0, 0, 4, 4])]})
    CocoDataset(root, "train")
    with pytest.raises(
        DataError, match=r"no segmentation, which Mask R-CNN needs for every object: 1 annotation \(id 4\)"
    ):
        CocoDataset(root, "train", include_masks=True)
    transposed = compressed(np.zeros((WIDTH, HEIGHT)))
    write(root, content | {"annotations": [annotation(4, 70, 3, [0, 0, 4, 4], segmentation=transposed)]})
    with pytest.raises(DataError, match=r"\(id 4: height and width \[20, 10\], where the image has \[10, 20\]\)"):
        CocoDataset(root, "train", include_masks=True)
    CocoDataset(root, "train")


def test_unusable_image(root: Path) -> None:
    dataset = CocoDataset(root, "train")
    Image.new("RGB", (HEIGHT, WIDTH)).save(root / "train" / "grey.png")
    with pytest.raises(DataError, match=r"grey.png: image 9 is 10x20 pixels, but instances_train.json says 20x10"):
        dataset[Sample(1, False)]
    (root / "train" / "colour.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"colour.jpg: image 70 cannot be read"):
        dataset[Sample(0, False)]
    (root / "train" / "colour.jpg").unlink()
    with pytest.raises(DataError, match=r"colour.jpg: image 70 cannot be read \(No such file"):
        dataset[Sample(0, False)]


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_loaders(root: Path, loader_workers: int) -> None:
    dataset = CocoDataset(root, "train")
    shares = [
        [
            target["image_index"]
            for _, targets in eval_loader(
                dataset, batch_size=2, loader_workers=loader_workers, shards=2, own_shards=range(shard, shard + 1)
            )
            for target in targets
        ]
        for shard in range(2)
    ]
    assert shares == [[0, 2], [1]]

    sampler = TrainSampler(dataset.sizes, global_batch=2, total_steps=3, seed=0, flip_probability=0.5)
    batches = list(train_loader(dataset, sampler, loader_workers=loader_workers))
    assert [[target["image_index"] for target in targets] for _, targets in batches] == [
        [sample.image_index for sample in sampler.global_batch(step)] for step in range(3)
    ]
    for step, (images, _) in enumerate(batches):
        for image, sample in zip(images, sampler.global_batch(step), strict=True):
            assert torch.equal(image, dataset[sample][0])
