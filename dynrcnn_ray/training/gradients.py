"""The gradients of a step's shards, added in an order that does not depend on how the shards lie on workers.

Floating-point sums depend on their order. Here it is that of a balanced binary tree over the shards: 0 and 1, 2 and 3,
then the two pairs. A worker adds the subtrees that it holds whole. What is left is added between the workers: each gets
a slice of every partial sum, adds it up in the tree's order, and sends the result to the others. That is the traffic of
a ring all-reduce.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dynrcnn_ray.config.shares import shards_of_worker
from dynrcnn_ray.training.collectives import Worker

_BUCKET_BYTES = 25 * 2**20
"""So much is exchanged at once, while the backward pass goes on; as PyTorch's `DistributedDataParallel` has it."""


class ShardGradients:
    """Adds up the gradients of a model's parameters over the shards of a step.

    After the backward pass of a worker's last shard each `parameter.grad` is the mean over all shards, with the same
    bits on every worker and for every number of workers. The gradients live in the buffers that are sent: `grad` stays
    the same tensor, and must not be set to None. It is zero where no shard computes one.

    A worker with several shards keeps at most log2(shards) partial sums besides, and what three buckets receive. A
    bucket is sent as soon as its gradients are there, and what came of the one before is added up then: both travel
    while the backward pass goes on.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], shards: int, worker: Worker) -> None:
        """Take over the gradients of those that train. As a context manager it lets go of them at its end.

        Args:
            parameters: of the model.
            shards: of a step, over all workers.
            worker: this process, of at most as many workers as shards.
        """
        held = [shards_of_worker(shards, rank, worker.world_size) for rank in range(worker.world_size)]
        self._last_shard = held[worker.rank][-1]
        self._buckets = [_Bucket(group, shards, held, worker.rank) for group in _grouped(parameters)]
        self._unsent: list[_Bucket] = []
        self._sent: list[_Bucket] = []
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._on_gradient_of(bucket))
            for bucket in self._buckets
            for parameter in bucket.parameters
        ]

    def __enter__(self) -> "ShardGradients":
        """Nothing is to be done."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the parameters as they were found, without gradients."""
        for hook in self._hooks:
            hook.remove()
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.grad = None

    def backward(self, shard: int, loss: Tensor) -> None:
        """Compute the gradients of a shard's loss and add them to the step's. Every worker must call it for its shards.

        Args:
            shard: a worker's shards come in ascending order; its first one begins a step.
            loss: scalar.
        """
        for bucket in self._buckets:
            bucket.begin(shard)
        is_last = shard == self._last_shard
        self._unsent = list(self._buckets) if is_last else []
        loss.backward()
        if not is_last:
            for bucket in self._buckets:
                bucket.add_to_tree(shard)
        # Those that no gradient reached.
        while self._unsent:
            self._send()
        if self._sent:
            self._sent[-1].add_up()
        while self._sent:
            self._sent.pop(0).finish()

    def _on_gradient_of(self, bucket: "_Bucket") -> Callable[[Tensor], None]:
        def count(_parameter: Tensor) -> None:
            bucket.missing -= 1
            # One after the other, as all workers must exchange them in the same order.
            while self._unsent and not self._unsent[0].missing:
                self._send()

        return count

    def _send(self) -> None:
        bucket = self._unsent.pop(0)
        bucket.send(self._last_shard)
        self._sent.append(bucket)
        # By now the other workers' parts of the one before should be here, and the mean of that before it.
        if len(self._sent) > 1:
            self._sent[-2].add_up()
        if len(self._sent) > 2:
            self._sent.pop(0).finish()


def _grouped(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters for one buffer each: of one type, the last ones first, as the backward pass comes to them."""
    group: list[nn.Parameter] = []
    size = 0
    for parameter in reversed([each for each in parameters if each.requires_grad]):
        if group and (size >= _BUCKET_BYTES or parameter.dtype != group[0].dtype):
            yield group
            group, size = [], 0
        group.append(parameter)
        size += parameter.numel() * parameter.element_size()
    if group:
        yield group


class _Bucket:
    """Some parameters whose gradients lie in one buffer, and the partial sums of it.

    After the worker's last shard it is sent, added up and finished, in that order.

    Attributes:
        parameters: in the buffer's order.
        missing: gradients that the current backward pass has yet to compute.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], shards: int, held: Sequence[range], rank: int) -> None:
        self.parameters = parameters
        self.missing = 0
        self._shards, self._rank, self._first_shard = shards, rank, held[rank].start
        # Of each worker's shards, the partial sums that it sends.
        self._spans = [_subtrees(each, shards) for each in held]
        count = sum(parameter.numel() for parameter in parameters)
        # Each worker's slice is of one size.
        self._slice = -(-count // len(held))
        self._gradients = parameters[0].new_zeros(self._slice * len(held))
        self._tree = _TreeSum(shards)
        self._next_span = range(0)
        self._work: dist.Work | None = None
        # What it receives into and what it sends.
        self._travelling: tuple[Tensor, ...] = ()
        start = 0
        for parameter in parameters:
            own = self._gradients[start : start + parameter.numel()]
            # In the parameter's own layout, which may have the channels last.
            parameter.grad = own.as_strided(parameter.size(), parameter.stride())
            start += parameter.numel()

    def begin(self, shard: int) -> None:
        """Make room for a shard's gradients, unless autograd may add them to those of its neighbour in the tree."""
        self.missing = len(self.parameters)
        self._next_span = range(shard, shard + 1)
        if shard == self._first_shard:
            self._tree.parts.clear()
            self._gradients.zero_()
            return
        span, newest = self._tree.parts.pop()
        if shard % 2:
            self._next_span = range(shard - 1, shard + 1)
        else:
            self._tree.parts.append((span, newest.clone()))
            self._gradients.zero_()

    def add_to_tree(self, shard: int) -> None:
        """Add the buffer, which has the shard's gradients, to the partial sums that it completes."""
        assert self._next_span[-1] == shard
        self._tree.add(self._next_span, self._gradients)

    def send(self, last_shard: int) -> None:
        """Send each worker its slice of the partial sums that this one holds."""
        self.add_to_tree(last_shard)
        workers = len(self._spans)
        if workers == 1:
            return
        sums = [value for _, value in self._tree.parts]
        # For each worker its slice of every partial sum.
        by_worker = torch.stack([each.view(workers, -1) for each in sums], dim=1) if len(sums) > 1 else self._gradients
        received = self._gradients.new_empty(sum(map(len, self._spans)) * self._slice)
        sent = by_worker.flatten()
        self._travelling = received, sent
        self._work = dist.all_to_all_single(
            received,
            sent,
            [len(of_worker) * self._slice for of_worker in self._spans],
            [len(sums) * self._slice] * workers,
            async_op=True,
        )

    def add_up(self) -> None:
        """Make this worker's slice the mean over all shards, and send it to all."""
        if self._work is None:
            self._gradients.div_(self._shards)
            return
        self._work.wait()
        received, _sent = self._travelling
        # Freed once it is added up, as a bucket of the box head alone has 50 MB.
        self._travelling = ()
        total = _TreeSum(self._shards)
        of_all = [span for of_worker in self._spans for span in of_worker]
        for span, part in zip(of_all, received.split(self._slice), strict=True):
            total.add(span, part)
        [(_, mean)] = total.parts
        own_slice = self._gradients.view(len(self._spans), -1)[self._rank]
        torch.div(mean, self._shards, out=own_slice)
        self._work = dist.all_gather_single(self._gradients, own_slice, async_op=True)

    def finish(self) -> None:
        """Wait for the other workers' slices of the mean."""
        if self._work is not None:
            self._work.wait()
            self._travelling = ()


class _TreeSum:
    """A sum over shards in the order of a balanced binary tree, from parts that come in ascending order.

    Attributes:
        parts: the shards of each partial sum, and the sum; at last one of all shards.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self.parts: list[tuple[range, Tensor]] = []

    def add(self, span: range, value: Tensor) -> None:
        """Add the sum over the shards of a subtree; its memory takes the sum with what it completes."""
        while self.parts and _are_siblings(self.parts[-1][0], span, self._shards):
            before, left = self.parts.pop()
            torch.add(left, value, out=value)
            span = range(before.start, span.stop)
        self.parts.append((span, value))


def _subtrees(shards: range, total: int) -> list[range]:
    """The largest subtrees that lie within some neighbouring shards, in ascending order."""
    spans: list[range] = []
    for shard in shards:
        span = range(shard, shard + 1)
        while spans and _are_siblings(spans[-1], span, total):
            span = range(spans.pop().start, span.stop)
        spans.append(span)
    return spans


def _are_siblings(left: range, right: range, total: int) -> bool:
    """Whether two neighbouring subtrees hang below one node.

    A node of height h has up to 2^h shards from a multiple of that on; the last one of a height may have fewer.
    """
    size = len(left)
    is_left_child = size & (size - 1) == 0 and left.start % (2 * size) == 0
    return is_left_child and (len(right) == size or (len(right) < size and right.stop == total))
