"""The sum of the shards' gradients on a GPU, where collectives run on streams of their own."""

import pytest
import torch
from torch import nn

from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.gradients import ShardGradients
from tests.training.test_shards import sum_by_tree

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("shards", [2, 5, 8])
def test_the_sum_is_that_of_a_balanced_tree_whatever_the_layout(shards: int, cuda: torch.device):
    """By hand, over some steps, so that one follows another on the same buffers."""
    weight = nn.Parameter(torch.zeros(64, 32, 3, 3, device=cuda).to(memory_format=torch.channels_last))
    with ShardGradients([weight], shards, Worker(device=cuda)) as summed:
        for step in range(5):
            values = [
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(step * 100 + shard)).to(cuda)
                for shard in range(shards)
            ]
            for shard, value in enumerate(values):
                summed.backward(shard, (weight * value).sum())
            assert weight.grad is not None
            assert torch.equal(weight.grad, sum_by_tree(values) / shards)
