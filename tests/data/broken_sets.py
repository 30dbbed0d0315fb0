"""A small, valid data set on disk, and how it fares: refused in lines, or loaded and measured in full."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from dynrcnn_ray.config.sections import DataConfig
from dynrcnn_ray.data.coco import CocoDataset, Sample
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.evaluation.coco_ap import Detections, evaluate_detections

WIDTH, HEIGHT = 40, 30


def valid_content() -> dict[str, Any]:
    """Three images; each holds a polygon and a compressed mask, the first also a crowd of uncompressed run lengths."""
    images, annotations = [], []
    for image_id in (11, 12, 15):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": WIDTH, "height": HEIGHT})
        corners = [4.0, 5.0, 16.0, 5.0, 16.0, 17.0, 4.0, 17.0]
        annotations.append(_annotation(image_id, 3, [4.0, 5.0, 12.0, 12.0], [corners]))
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[8:20, 22:36] = 1
        encoded: Any = mask_utils.encode(np.asfortranarray(mask))
        rle = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        annotations.append(_annotation(image_id, 90, [22, 8, 14, 12], rle))
    crowd = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 20, HEIGHT * 5, HEIGHT * 15]}
    annotations.append(_annotation(11, 3, [20, 0, 5, HEIGHT], crowd) | {"iscrowd": 1})
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    categories = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(image_id: int, category_id: int, bbox: list[float], segmentation: Any) -> dict[str, Any]:
    area = bbox[2] * bbox[3]
    return {
        "id": 0,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": area,
        "iscrowd": 0,
        "segmentation": segmentation,
    }


def annotation_file(root: Path, split: str) -> Path:
    return root / "annotations" / f"instances_{split}.json"


def write_valid(root: Path) -> None:
    (root / "annotations").mkdir(parents=True)
    for seed, split in enumerate(("train", "val")):
        pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        (root / split).mkdir()
        content = valid_content()
        for image in content["images"]:
            Image.fromarray(pixels).save(root / split / image["file_name"])
        write(root, split, content)


def write(root: Path, split: str, content: Any) -> None:
    annotation_file(root, split).write_text(json.dumps(copy.deepcopy(content)))


def load_and_measure(data: DataConfig) -> dict[str, CocoDataset]:
    """Prepare and load both splits with masks, look at every item, and measure perfect detections."""
    prepared = prepare_data(data, include_masks=True)
    datasets = {name: CocoDataset(prepared.root, name, include_masks=True) for name in ("train", "val")}
    for dataset in datasets.values():
        for index in range(len(dataset)):
            for flip in (False, True):
                image, target = dataset[Sample(index, flip)]
                boxes = target["boxes"]
                height, width = image.shape[1:]
                assert boxes.isfinite().all()
                assert (boxes >= 0).all()
                assert (boxes[:, 2] <= width).all()
                assert (boxes[:, 3] <= height).all()
                assert (boxes[:, 2:] > boxes[:, :2]).all()
                assert ((target["labels"] >= 1) & (target["labels"] <= len(dataset.class_names))).all()
                assert target["masks"].shape == (len(boxes), height, width)
                assert (target["masks"] <= 1).all()
    for kind in ("bbox", "segm"):
        metrics = evaluate_detections(datasets["val"].annotation_file, _perfect(datasets["val"]), kind=kind)
        assert metrics["AP"] is not None
        assert abs(metrics["AP"] - 100) < 1e-6, (kind, metrics)
    return datasets


def _perfect(dataset: CocoDataset) -> list[Detections]:
    detections = []
    for index, image_id in enumerate(dataset.image_ids):
        _, target = dataset[Sample(index, flip=False)]
        masks: Any = mask_utils.encode(np.asfortranarray(target["masks"].permute(1, 2, 0).numpy()))
        category_ids = np.array(dataset.category_ids)[target["labels"].numpy() - 1]
        scores = np.ones(len(category_ids))
        detections.append(Detections(image_id, target["boxes"].numpy(), scores, category_ids, masks))
    return detections
