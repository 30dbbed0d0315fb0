"""What dynamic training and its records cost: a training step with them against one without."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.gloo import in_processes
from benchmarks.paired import Paired, paired, timed
from benchmarks.schema import Row, at_most, compared_row
from benchmarks.workbench import Workbench, preload, resting_training, step_of, train_split, with_steps
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.data.loader import Batch
from dynrcnn_ray.models.detector import build_torchvision_model
from dynrcnn_ray.training.collectives import Worker, all_reduce_sum
from dynrcnn_ray.training.device import on_device, prepare_device
from dynrcnn_ray.training.loop import seed_step, train
from dynrcnn_ray.training.optimizer import build_optimizer, set_learning_rate
from dynrcnn_ray.training.state import build_training_state
from dynrcnn_ray.training.telemetry import loss_names

_NUM_BATCHES = 8
_ROUNDS_OF_MINI = 20
"""For one of ResNet-50."""


def measure_training_step(bench: Workbench, rounds: int) -> Iterator[Row]:
    """Dynamic training on against off, our heads with and without DLA and DSL, and the share of the rest of a step."""
    torch.set_num_threads(bench.mini.run.threads_per_worker)
    if not bench.on_gpu:  # There the host's clock says nothing of what the device does meanwhile.
        # First, in a process that holds nothing else yet, as a training's own does.
        yield _outside_row(bench.mini, rounds)
    few = bench.rounds_of_resnet(rounds, of_mini=_ROUNDS_OF_MINI)
    for label, config, count in (("mini", bench.mini, rounds), ("ResNet-50 320 px", bench.resnet, few)):
        torch.set_num_threads(config.run.threads_per_worker)
        key = label.split()[0].lower()
        yield compared_row(
            f"training_step.{key}.dynamic",
            f"training step, dynamic on, {label}",
            "the same weights with torchvision's own RoI heads, which record nothing",
            _against(config, _stock_step(config, bench.worker), count, bench.worker),
            "seconds a step",
            must=at_most(1.01),
        )
        yield compared_row(
            f"training_step.{key}.dla_dsl",
            f"training step, DLA and DSL on, {label}",
            "our heads with both off, which record the same statistics",
            _against(config, _dynamic_step(_fixed(config), bench.worker), count, bench.worker),
            "seconds a step",
        )
    torch.set_num_threads(bench.mini.run.threads_per_worker)
    if bench.on_gpu:
        yield from _precision_rows(bench, few)
        yield _deterministic_row(bench, few)
    else:
        yield _telemetry_row(bench.mini, rounds)
    yield _preloaded_row(bench.mini, max(2, rounds // 30), bench.worker)


Step = Callable[[Batch], None]


def _against(config: TrialConfig, other: Step, rounds: int, worker: Worker) -> Paired:
    """Steps with dynamic training against others. No step changes a weight; both see the same batches and draws."""
    batches = preload(config, train_split(config), _NUM_BATCHES)
    dynamic = _dynamic_step(config, worker)
    return paired(_stepper(dynamic, batches), _stepper(other, batches), rounds=rounds, warm_up=3)


def _stepper(step: Step, batches: list[Batch]) -> Callable[[], float]:
    numbers = itertools.count()

    def measure() -> float:
        number = next(numbers)
        seed_step(0, number, 0)
        return timed(lambda: step(batches[number % len(batches)]))()

    return measure


def _dynamic_step(config: TrialConfig, worker: Worker) -> Step:
    state = resting_training(config, worker)
    return step_of(state.model, state.optimizer, config, after=state.dynamic.end_step)


def _stock_step(config: TrialConfig, worker: Worker) -> Step:
    """The same weights: both are drawn from the trial's seed, in the same order."""
    torch.manual_seed(config.seed)
    model = build_torchvision_model(config, len(train_split(config).class_names))
    on_device(model, worker.device)
    optimizer = build_optimizer(model, config)
    set_learning_rate(optimizer, 0.0)
    return step_of(model.train(), optimizer, config)


def _fixed(config: TrialConfig) -> TrialConfig:
    return dataclasses.replace(config, dynamic=dataclasses.replace(config.dynamic, dla=False, dsl=False))


def _precision_rows(bench: Workbench, rounds: int) -> Iterator[Row]:
    """What mixed precision gains on a GPU."""
    for precision in ("bfloat16", "float16"):
        mixed = dataclasses.replace(
            bench.resnet,
            train=dataclasses.replace(bench.resnet.train, precision=precision),
            run=dataclasses.replace(bench.resnet.run, gpu=1),
        )
        yield compared_row(
            f"training_step.resnet-50.{precision}",
            f"training step, {precision}, ResNet-50 320 px",
            "the same in float32 (TF32)",
            _against(mixed, _dynamic_step(bench.resnet, bench.worker), rounds, bench.worker),
            "seconds a step",
        )


def _deterministic_row(bench: Workbench, rounds: int) -> Row:
    """What the same bits each time cost on a GPU."""
    # cuBLAS reads its setting when it is first used, so in a process of its own.
    [seconds] = in_processes(_deterministic_seconds, 1, bench.scratch, bench.resnet, bench.worker.device, rounds)
    return compared_row(
        "training_step.resnet-50.deterministic",
        "training step with run.deterministic, ResNet-50 320 px",
        "the same without",
        Paired(*seconds),
        "seconds a step",
        must=at_most(1.5),
    )


def _deterministic_seconds(_worker: Worker, config: TrialConfig, device: torch.device, rounds: int) -> np.ndarray:
    """Seconds of each step, `[2, rounds]`: with deterministic algorithms, and without."""
    prepare_device(device, deterministic=True)
    step = _dynamic_step(config, Worker(device=device))

    def with_setting(deterministic: bool) -> Step:
        def switched(batch: Batch) -> None:
            torch.use_deterministic_algorithms(deterministic)
            step(batch)

        return switched

    batches = preload(config, train_split(config), _NUM_BATCHES)
    sides = [_stepper(with_setting(deterministic), batches) for deterministic in (True, False)]
    result = paired(*sides, rounds=rounds, warm_up=3)
    return np.stack([result.a, result.b])


def _telemetry_row(config: TrialConfig, rounds: int) -> Row:
    """What the records of a logging interval take of its steps, timed by themselves: too little for a comparison."""
    state = resting_training(config, Worker())
    (batch,) = preload(config, train_split(config), 1)
    step = timed(lambda: step_of(state.model, state.optimizer, config)(batch))
    losses = dict.fromkeys(loss_names(config.model), torch.tensor(1.0))
    steps = config.run.log_every

    def records() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            state.telemetry.add(0, losses, state.assignment, len(batch[0]))
            state.telemetry.end_step()
        state.telemetry.row(steps, 0.0, state.dynamic, {0: state.assignment}, all_reduce_sum)
        return (time.perf_counter() - started) / steps

    step()
    return compared_row(
        "training_step.mini.telemetry",
        "the records of the dynamics, mini",
        "the step that they record",
        paired(records, step, rounds=rounds),
        "seconds a step",
        must=at_most(0.01),
        note=f"{steps} steps' additions and their one row, a step's share of them",
    )


def _outside_row(config: TrialConfig, rounds: int) -> Row:
    """The engine's own loop, its steps cut in two by the clock: from the optimiser's end to the model's start."""
    state = build_training_state(Trial(config), len(train_split(config).class_names), Worker())
    starts, ends = [], []
    state.model.register_forward_pre_hook(lambda *_: starts.append(time.perf_counter()))
    state.optimizer.register_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    steps = max(3, rounds)
    for _ in train(with_steps(config, steps), state, train_split(config)):
        pass
    # Whole logging intervals: the row at their end is a part of what is measured.
    begins, whole = np.array(starts), np.diff(ends)
    outside = begins[1:] - np.array(ends[:-1])
    interval = config.run.log_every
    if len(whole) >= 2 * interval:
        cut = len(whole) // interval * interval
        outside, whole = (values[:cut].reshape(-1, interval).mean(axis=1) for values in (outside, whole))
    return compared_row(
        "training_step.mini.outside",
        "the step's time outside model, backward and optimiser, mini",
        "the whole step of the engine's loop",
        Paired(outside, whole),
        "seconds a step",
        must=at_most(0.03),
        note="images read and decoded by the training process, Algorithm 1's update, records and rows; clocked within "
        "the loop, a round is a logging interval",
    )


def _preloaded_row(config: TrialConfig, rounds: int, worker: Worker) -> Row:
    """The same by another way: the engine's loop against bare steps on the same batches, read before."""
    dataset = train_split(config)
    classes = len(dataset.class_names)
    state, bare = (build_training_state(Trial(config), classes, worker) for _ in range(2))
    steps = config.run.log_every
    batches = iter(preload(config, dataset, (rounds + 1) * steps))
    bare.model.train()
    step = step_of(bare.model, bare.optimizer, config)

    def engine() -> None:
        longer = with_steps(config, state.step + steps)
        for _ in train(longer, state, dataset):
            pass

    def preloaded() -> None:
        for batch in itertools.islice(batches, steps):
            step(batch)

    return compared_row(
        "training_step.mini.loop",
        "the engine's loop from files to row, mini",
        "model, backward and optimiser alone, on the same batches read before",
        paired(timed(engine), timed(preloaded), rounds=rounds),
        f"seconds for {steps} steps",
        must=at_most(1.03),
    )
