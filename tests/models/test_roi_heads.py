"""The sample of an image's proposals against torchvision's own."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import RoIHeads

from dynrcnn_ray.models.roi_heads import sample_proposals

SIZE, FRACTION = 32, 0.25


class Heads(RoIHeads):
    """torchvision's `subsample`, and nothing else."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.fg_bg_sampler = BalancedPositiveNegativeSampler(SIZE, FRACTION)


def labels(positives: int, backgrounds: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    classes = torch.cat([torch.arange(positives) % 3 + 1, torch.zeros(backgrounds, dtype=torch.int64)])
    return classes[torch.randperm(len(classes), generator=generator)]


@pytest.mark.parametrize(
    ("positives", "backgrounds"), [(0, 100), (3, 100), (8, 24), (50, 100), (50, 10), (5, 4), (50, 0), (0, 0)]
)
def test_the_sample_is_torchvisions(positives: int, backgrounds: int):
    of_images = [labels(positives, backgrounds), labels(4, 60)]
    heads = Heads()
    torch.manual_seed(7)
    theirs = heads.subsample(of_images)
    torch.manual_seed(7)
    ours = [sample_proposals(label, heads.fg_bg_sampler) for label in of_images]
    assert [sample.tolist() for sample in ours] == [sample.tolist() for sample in theirs]
