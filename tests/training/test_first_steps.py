"""How long a trial takes is told from its first steps, whatever the machine."""

import dataclasses

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.experiment.costs import duration, seconds_left
from dynrcnn_ray.training import loop
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.events import Timed
from dynrcnn_ray.training.loop import _FirstSteps


def timed(monkeypatch: pytest.MonkeyPatch, first: int, total: int) -> list[tuple[int, Timed]]:
    """What is told after which step, where the first step takes ten seconds and each other one two."""
    steps = _FirstSteps(first, total)
    told = []
    for step in range(first + 1, total + 1):
        now = 10.0 + 2.0 * (step - first - 1)
        monkeypatch.setattr(loop.time, "perf_counter", lambda now=now: now)
        if found := steps.end(step, Worker()):
            told.append((step, found))
    return told


@pytest.mark.parametrize("first", [0, 200])
def test_the_first_step_does_not_count(monkeypatch: pytest.MonkeyPatch, first: int):
    assert timed(monkeypatch, first, 300) == [(first + 6, Timed(steps=5, seconds=2.0, steps_left=300 - first - 6))]


def test_a_training_that_is_over_soon_tells_nothing(monkeypatch: pytest.MonkeyPatch):
    assert timed(monkeypatch, 0, 49) == []
    assert timed(monkeypatch, 260, 300) == []


def test_what_is_left_are_steps_and_evaluations():
    config = base_config("mini")
    # A step of 8 images in 2 seconds; an image is tested in a third of what it takes to train on it.
    assert seconds_left(config, 2.0, 594, 300) == pytest.approx(594 * 2 + 300 * 0.25 / 3)
    often = dataclasses.replace(config, run=dataclasses.replace(config.run, evaluate_checkpoints=True))
    assert seconds_left(often, 2.0, 594, 300) == pytest.approx(594 * 2 + 3 * 300 * 0.25 / 3)


def test_durations_for_people():
    assert [duration(seconds) for seconds in (12, 59, 60, 3599, 3600, 36000)] == [
        "12 s", "59 s", "1 min", "60 min", "1.0 h", "10 h"
    ]  # fmt: skip
