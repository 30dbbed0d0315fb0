"""The oddest images and boxes that the data check lets through train and are measured."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.prepare import prepare_data
from dynrcnn_ray.training.collectives import Worker
from tests.training.test_trial import change
from tests.trial_events import run_to_end


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_strips_of_one_pixel_and_the_thinnest_boxes_train(
    smoke: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = shutil.copytree(smoke.data.root, tmp_path / "set")
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        for image, (width, height) in zip(
            content["images"], [(2000, 33), (33, 2000), (1, 1), (3, 190)] * 4, strict=False
        ):
            Image.effect_noise((width, height), 50).convert("RGB").save(root / split / image["file_name"])
            image |= {"width": width, "height": height}
        content["annotations"] = [
            {"id": 2 * at + twin, "image_id": image["id"], "category_id": 1, "iscrowd": 0, "bbox": box, "area": 1}
            | {"segmentation": [[box[0], box[1], box[0] + box[2], box[1], box[0] + box[2], box[1] + box[3]]]}
            for at, image in enumerate(content["images"])
            for twin, box in enumerate(
                [[0, 0, image["width"], image["height"]], [0, 0, image["width"] * 1e-6, image["height"] / 2]]
            )
        ]
        file.write_text(json.dumps(content))
    config = change(smoke, model={"name": name}, train={"steps": 3}, data={"root": str(root)})
    config = change(config, data={"root": prepare_data(config.data, include_masks=config.model.has_masks).root})
    assert run_to_end(config, Worker()).metrics["AP"] is not None
