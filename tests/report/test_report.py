from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from dynrcnn_ray.paper.drawn import figures_of_stored
from dynrcnn_ray.report import report
from dynrcnn_ray.store.files import StoreError


def proposal_columns() -> dict[str, np.ndarray]:
    """Two proposals at each of two steps."""
    rng = np.random.default_rng(0)
    offsets = {name: rng.normal(0, 0.1, 4) for name in ("dx", "dy", "dw", "dh")}
    corners = {"x1": [0, 5, 0, 5], "y1": [0, 5, 0, 5], "x2": [20, 25, 20, 25], "y2": [20, 25, 20, 25]}
    return {
        "step": np.array([60, 60, 600, 600]),
        "iou_threshold": np.array([0.4, 0.4, 0.6, 0.6]),
        "smooth_l1_beta": np.array([0.9, 0.9, 0.2, 0.2]),
        "image": np.array([0, 1, 0, 1]),
        "is_ground_truth": np.zeros(4, dtype=bool),
        "max_iou": np.array([0.5, 0.7, 0.55, 0.8]),
        **offsets,
        **{name: np.array(values, dtype=float) for name, values in corners.items()},
    }


def write_figure_plan(store, name: str, trial_ids: list[str]) -> None:
    rows = [
        {
            "title": "A figure",
            "anchor": "Figure",
            "row": 0,
            "labels": {"DLA": "", "DSL": ""},
            "seed": seed,
            "trial_id": trial_id,
            "reported": {},
            "metrics": [],
            "scale": "mini",
            "command": f"python experiments/main.py {name}",
        }
        for seed, trial_id in enumerate(trial_ids)
    ]
    store.write_plan(name, rows)


def draw_report(store, name):
    return report.draw_report(store, name, figures_of_stored(name))


def figure_of(store, name):
    [drawing] = figures_of_stored(name)
    return drawing.draw(store, store.plan(name), store.finished_trials())


@pytest.mark.slow
def test_report_writes_a_table_and_its_trends(table3_store, tmp_path):
    drawn = draw_report(table3_store, "table3")

    storage = tmp_path / "storage"
    names = [
        "tables/table3.parquet",
        "tables/table3.md",
        "tables/table3.tex",
        "figures/trends_table3.png",
        "figures/trends_table3.svg",
    ]
    assert drawn.paths == [str(storage / name) for name in names]
    assert "ΔAP" in drawn.table
    assert "ΔAP" in (storage / "tables/table3.md").read_text()
    image = matplotlib.image.imread(storage / "figures/trends_table3.png")
    assert image.shape[:2] == (1230, 1050)
    assert image[..., :3].std() > 0.05
    assert ElementTree.parse(storage / "figures/trends_table3.svg").getroot().tag.endswith("svg")


def test_a_report_before_the_first_trial_is_a_table_alone(table3_store, store, tmp_path):
    for path in (tmp_path / "storage/trials").iterdir():
        path.unlink()

    assert [Path(path).name for path in draw_report(store, "table3").paths] == [
        "table3.parquet",
        "table3.md",
        "table3.tex",
    ]


@pytest.mark.slow
def test_a_figure_is_drawn_from_its_recorded_trials_without_a_table(table3_store, tmp_path):
    baseline = ["row0seed0", "row0seed1", "row0seed2"]
    for name in ("figure1", "figure2", "figure3"):
        write_figure_plan(table3_store, name, baseline)
    table3_store.write_proposals("row0seed1", proposal_columns())

    for name in ("figure1", "figure2", "figure3"):
        paths = draw_report(table3_store, name).paths
        assert paths == [str(tmp_path / "storage/figures" / f"{name}.{kind}") for kind in ("png", "svg")]
        assert all(Path(path).stat().st_size > 5000 for path in paths)
    assert not (tmp_path / "storage/tables").exists()

    # What is drawn is what the store holds: dynamics of three seeds, proposals of one.
    assert [figure_of(table3_store, name).get_suptitle().split("; ")[1] for name in ("figure1", "figure2")] == [
        "seeds 0, 1, 2",
        "seed 1",
    ]


def test_a_figure_leaves_out_what_has_failed_and_is_nothing_before_the_first_trial(table3_store, make_trial):
    write_figure_plan(table3_store, "figure2", ["row0seed0"])
    assert figure_of(table3_store, "figure2") is None
    assert draw_report(table3_store, "figure2").paths == []

    table3_store.write_proposals("row0seed0", proposal_columns())
    assert figure_of(table3_store, "figure2") is not None
    table3_store.write_trial(make_trial("row0seed0", status="failed", error="out of memory"))
    assert figure_of(table3_store, "figure2") is None


def test_figure4_needs_no_trial(store):
    store.write_plan("figure4", [])

    assert [Path(path).name for path in draw_report(store, "figure4").paths] == ["figure4.png", "figure4.svg"]


def test_an_experiment_that_was_never_run(table3_store):
    with pytest.raises(StoreError, match=r"no 'table4', only: table3; run the experiment first"):
        draw_report(table3_store, "table4")


def test_figures_and_tables_are_told_apart(table3_store):
    write_figure_plan(table3_store, "figure1", ["row0seed0"])
    table3_store.write_plan("figure4", [])
    plans = {name: table3_store.plan(name) for name in ("figure1", "figure4", "table3")}
    assert [report.is_figure(plan) for plan in plans.values()] == [True, True, False]
