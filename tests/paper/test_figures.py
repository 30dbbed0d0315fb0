"""The figures' rows: trials of the tables, and nothing that the tables would not run."""

import dataclasses

import pytest

from dynrcnn_ray.config.scales import SCALES, base_config
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.paper import figure1, figure2, figure3, figure4, figure5, table3, table4, table5
from dynrcnn_ray.report.figures import figures_of
from dynrcnn_ray.report.report import is_figure
from dynrcnn_ray.store.results_store import ResultStore

MODULES = (figure1, figure2, figure3, figure4, figure5)
SEEDS = (0, 1)


@pytest.mark.parametrize("scale", SCALES)
def test_a_figures_trials_are_those_of_the_tables(scale):
    base = base_config(scale)

    def ids(*modules) -> list[str]:
        return [trial_id for module in modules for trial_id in module.EXPERIMENT.trials(Trial(base), seeds=(0,))]

    baseline, dsl, dla, both = ids(table3)
    assert ids(figure1) == ids(figure2) == [baseline]
    assert ids(figure3) == [both]
    assert ids(figure4) == []
    assert ids(figure5) == ids(table4)[1:] + ids(table5)[3:]
    assert {dla, dsl} <= set(ids(figure5))
    # The cost that figure5's docstring states.
    assert len(set(ids(figure5)) - set(ids(table3))) == 4


def test_rows_are_named_for_the_figure():
    base = base_config("mini")
    names = {module.EXPERIMENT.name: [] for module in MODULES}
    for module in MODULES:
        names[module.EXPERIMENT.name] = [name for name, _ in module.EXPERIMENT.trials(Trial(base), seeds=(0,)).values()]
    assert names == {
        "figure1": ["baseline"],
        "figure2": ["baseline"],
        "figure3": ["DLA + DSL"],
        "figure4": [],
        "figure5": ["K_I = 64", "K_I = 75", "K_I = 100", "K_β = 15", "K_β = 10", "K_β = 8"],
    }


@pytest.mark.parametrize("module", MODULES)
def test_a_plan_fits_the_store_and_names_every_trial(module, tmp_path):
    experiment = module.EXPERIMENT
    store = ResultStore.open(tmp_path)
    store.write_plan(experiment.name, experiment.plan(Trial(base_config("mini")), SEEDS, "a command"))

    plan = store.plan(experiment.name)
    assert plan is not None
    assert set(plan["trial_id"]) == set(experiment.trials(Trial(base_config("mini")), SEEDS))
    assert is_figure(plan)
    assert [each.name for each in figures_of(experiment.figures, experiment.name)] == [experiment.name]


def test_docstrings_state_place_cost_and_command():
    for module in MODULES:
        number = module.EXPERIMENT.name[-1]
        assert module.__doc__.startswith(f"Figure {number} of the paper (Section ")
        assert "\nCost: " in module.__doc__
        assert f"Command:  dynrcnn figure{number}" in module.__doc__
        assert module.EXPERIMENT.reference.startswith(f"Figure {number}, Section ")


def test_a_value_that_a_figure_sets_itself_is_refused():
    scale_base = base_config("mini")
    base = dataclasses.replace(scale_base, dynamic=dataclasses.replace(scale_base.dynamic, beta_top_k=20))
    with pytest.raises(ConfigError, match="figure5 sets this field itself"):
        figure5.EXPERIMENT.check_base(base, scale_base)
