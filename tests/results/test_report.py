import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import pytest

from dynrcnn_ray.results.figures import draw_figure5, figure_bytes
from dynrcnn_ray.results.report import draw_report
from dynrcnn_ray.results.store import StoreError


def test_report_writes_table_and_figure(table3_store, tmp_path):
    paths = draw_report(table3_store, "table3")

    storage = tmp_path / "storage"
    names = ["tables/table3.parquet", "tables/table3.md", "figures/figure5.png", "figures/figure5.svg"]
    assert paths == [str(storage / name) for name in names]
    assert "ΔAP" in (storage / "tables/table3.md").read_text()
    image = matplotlib.image.imread(storage / "figures/figure5.png")
    assert image.shape[:2] == (1230, 1050)
    assert image[..., :3].std() > 0.05
    assert ElementTree.parse(storage / "figures/figure5.svg").getroot().tag.endswith("svg")


def test_a_report_before_the_first_trial_is_a_table_alone(table3_store, store, tmp_path):
    for path in (tmp_path / "storage/trials").iterdir():
        path.unlink()

    assert [Path(path).name for path in draw_report(store, "table3")] == ["table3.parquet", "table3.md"]


def test_an_experiment_that_was_never_run(table3_store):
    with pytest.raises(StoreError, match=r"no 'table4', only: table3; run the experiment first"):
        draw_report(table3_store, "table4")


def test_figure5_has_a_line_a_setting_and_dashes_what_is_only_recorded(table3_store):
    plan = table3_store.plan("table3")
    dynamics = table3_store.dynamics(plan["trial_id"])

    figure = draw_figure5(plan, dynamics)

    threshold, beta, positives = figure.axes
    # Baseline and DSL are without DLA: their T_now is dashed, and the 0.5 in force is a fifth line.
    assert [line.get_linestyle() for line in threshold.lines] == ["--", "--", "-", "-", "-"]
    assert [line.get_linestyle() for line in beta.lines] == ["--", "-", "--", "-", "-"]
    assert len(positives.lines) == 8
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline", "DSL", "DLA", "DLA + DSL", "recorded only, not in force"]
    drawn = threshold.lines[3].get_ydata()
    expected = dynamics[dynamics["trial_id"].str.startswith("row3")].groupby("step")["T_now"].mean()
    assert list(drawn) == pytest.approx(expected.tolist())


def test_the_same_figure_gives_the_same_svg(table3_store):
    plan = table3_store.plan("table3")
    dynamics = table3_store.dynamics(plan["trial_id"])

    first, second = (figure_bytes(draw_figure5(plan, dynamics), "svg") for _ in range(2))

    assert first == second


def test_drawing_needs_neither_torch_nor_ray():
    code = "import sys, dynrcnn_ray.results.report; print({'torch', 'torchvision', 'ray'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "set()"
