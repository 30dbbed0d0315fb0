"""The training loop itself draws no image without objects, unless it is told to keep them."""

import json
import shutil
from pathlib import Path

import pytest
from torch import Tensor

from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.coco import CocoDataset, Sample, Target
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.loop import train
from dynrcnn_ray.training.state import build_training_state
from tests.prepared import prepared
from tests.training.test_trial import change


class Recorded(CocoDataset):
    """Remembers which images were asked for."""

    seen: set[int]

    def __getitem__(self, sample: Sample) -> tuple[Tensor, Target]:
        self.seen.add(sample.image_index)
        return super().__getitem__(sample)


@pytest.mark.parametrize("keep", [False, True])
def test_training_leaves_out_images_without_objects(smoke: TrialConfig, tmp_path: Path, keep: bool) -> None:
    root = shutil.copytree(smoke.data.root, tmp_path / "set")
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    empty = {image["id"] for image in content["images"][1::2]}
    content["annotations"] = [record for record in content["annotations"] if record["image_id"] not in empty]
    file.write_text(json.dumps(content))
    dataset = Recorded(root, "train")
    dataset.seen = set()
    config = change(smoke, train={"steps": 4, "global_batch": 4}, data={"keep_empty_images": keep})
    state = build_training_state(prepared(config), len(dataset.class_names), Worker())
    for _ in train(config, state, dataset):
        pass
    assert dataset.seen == set(range(0, 16, 1 if keep else 2))
