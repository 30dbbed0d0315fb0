"""How a grid is divided before Ray sees it."""

import dataclasses

import pytest

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import RunConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.execution import cluster
from dynrcnn_ray.execution.job import PlannedTrial
from dynrcnn_ray.execution.trials import _waves
from dynrcnn_ray.paper import table2


def planned(configs) -> list[PlannedTrial]:
    return [PlannedTrial(Trial(config), "made", "row") for config in configs]


def test_trials_of_a_wave_ask_for_the_same_resources():
    base = base_config("mini")
    runs = [RunConfig(num_workers=number, cpus_per_worker=1 / number) for number in (1, 2, 4, 1, 2)]
    trials = planned(dataclasses.replace(base, seed=seed, run=run) for seed, run in enumerate(runs))

    waves = _waves(trials)

    asked = [
        {(trial.trial.config.run.num_workers, trial.trial.config.run.cpus_per_worker) for trial in wave}
        for wave in waves
    ]
    assert asked == [{(1, 1)}, {(2, 0.5)}, {(4, 0.25)}]
    assert sorted(map(id, trials)) == sorted(id(trial) for wave in waves for trial in wave)


def test_trials_that_only_test_again_come_last():
    configs = [trial.config for _, trial in table2.EXPERIMENT.trials(Trial(base_config("mini")), (0,)).values()]
    one_worker = [dataclasses.replace(config, run=RunConfig(num_workers=1)) for config in configs]

    waves = _waves(planned([*configs, *one_worker]))

    trained = [{trial.trial.training_id for trial in wave} for wave in waves]
    first = set().union(*(ids for ids, wave in zip(trained, waves, strict=True) if len(ids) == len(wave)))
    assert trained[-1] <= first
    assert [trial.trial.config.run.num_workers for trial in waves[0]] == [2] * len(waves[0])


@pytest.mark.parametrize(
    ("cores", "each", "places"), [(2, 1, 2), (2, 0.125, 16), (1, 0.1, 10), (1, 1 / 3, 3), (4, 1.5, 2), (0, 0.5, 0)]
)
def test_places_of_workers_that_share_cores(cores: float, each: float, places: int):
    assert cluster._places({"CPU": cores}, {"CPU": each}) == places
    assert cluster._places({"CPU": cores, "GPU": 1}, {"CPU": each, "GPU": 1}) == min(places, 1)
