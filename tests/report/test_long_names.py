"""Long and foreign names: none runs over another, none leaves its picture, and drawing them warns of nothing."""

import itertools
import logging
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynrcnn_ray.paper.drawings.figure5 import draw_figure5
from dynrcnn_ray.report import figure_style as style
from dynrcnn_ray.report.figure_style import figure_bytes, figure_style
from dynrcnn_ray.report.html.charts import line_chart
from dynrcnn_ray.report.html.pictures import pictures_of
from dynrcnn_ray.report.table_text import simple_markdown
from dynrcnn_ray.report.text_width import folded, shortened, width_of
from dynrcnn_ray.report.trends import draw_trends
from dynrcnn_ray.store.results_store import ResultStore
from tests.stored_table import dynamics_rows, plan_row

LONG = "red blood cell, infected by Plasmodium falciparum, ring stage, seen from the side in a thick film of blood"
ONE_WORD = "personal_protective_equipment_hard_hat_with_face_shield_and_ear_muffs_and_gloves_and_boots"
CJK = "自分のグリッドの学習率を変えた設定: 猫と犬"
NAMES = (LONG, ONE_WORD, CJK, "dog")

texts = st.text(st.sampled_from("ab c_猫é\u0301"), max_size=60)


@given(texts, st.integers(2, 30))
def test_folded_lines_fit_and_lose_no_letter(text: str, room: int):
    lines = folded(text, room).split("\n")
    assert all(width_of(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(texts, st.integers(3, 30))
def test_a_shortened_text_fits_and_is_a_beginning(text: str, room: int):
    short = shortened(text, room)
    assert width_of(short) <= room
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


def test_tables_of_text_are_aligned():
    lines = simple_markdown(["name", "AP"], [["猫", "1.0"], ["a cat", "22.0"]]).split("\n")
    assert len({width_of(line) for line in lines}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_title_of_a_chart_stays_within_it(name: str):
    chart = line_chart(name, [0, 1], {"precision": [1.0, 2.0]})
    assert chart is not None
    title = chart.texts[0]
    assert float(title.x) + 6.2 * width_of(title.text) <= chart.width
    assert name in chart.label, "whole for those who do not see it"


def detections_of(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 1, (count, 4)) * [640, 480, 640, 480]
    sides = dict(zip(("x1", "y1", "x2", "y2"), corners.T, strict=True))
    ids = {"image_id": 7, "category_id": rng.integers(1, 5, count), "score": 0.9}
    return pd.DataFrame({**sides, **ids})


@pytest.mark.parametrize("seed", range(20))
def test_labels_of_detections_do_not_run_over_each_other(seed: int):
    shown = {"image_id": 7, "file_name": "a.jpg", "width": 640, "height": 480, "jpeg": b"", "boxes": []}
    images = pd.DataFrame([shown | {"category_names": dict(enumerate(NAMES, start=1))}])
    (picture,) = pictures_of(images, {"trial": detections_of(9, seed)})
    size = 640 / 24
    areas = []
    for box in picture["detections"]:
        left, bottom = float(box["label_left"]), float(box["label_top"])
        right = left + 0.62 * size * width_of(box["label"])
        assert left >= 0
        assert right <= 640.1
        assert size - 0.1 <= bottom <= 480.1
        assert box["name"] in NAMES
        areas.append((left, bottom, right))
    for one, other in itertools.combinations(areas, 2):
        assert abs(one[1] - other[1]) >= size - 0.2 or one[2] <= other[0] + 0.2 or other[2] <= one[0] + 0.2


def drawn(store: ResultStore, column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A plan whose rows and title have such names, and its trials' steps."""
    lines = []
    for row, name in enumerate(NAMES):
        store.write_dynamics(str(row), dynamics_rows(row, seed=0))
        changes = {"labels": {column: str(row) if column == "K_I" else name}, "title": f"{CJK}: {LONG}"}
        lines.append(plan_row(row, trial_id=str(row), **changes))
    return store.write_plan("mine", lines), store.dynamics(map(str, range(len(NAMES))))


@pytest.mark.parametrize("fonts", ["installed", "none"])
@pytest.mark.parametrize(("draw", "column"), [(draw_trends, "Setting"), (draw_figure5, "K_I")])
def test_figures_warn_of_nothing_and_nothing_leaves_them(store, draw, column: str, fonts: str, monkeypatch, caplog):
    if fonts == "none":
        monkeypatch.setattr(style, "_FAMILIES", ())
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        figure = draw(*drawn(store, column))
        png, svg = figure_bytes(figure, "png"), figure_bytes(figure, "svg").decode()
    assert not caplog.records
    assert png.startswith(b"\x89PNG")
    if fonts == "none":
        assert "猫と犬" in re.sub(r"<[^>]*>", "", svg), "a reader's machine may have the letters"
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    heading = next(text for text in figure.texts if text.get_text() == figure.get_suptitle())
    with figure_style():
        boxes = [artist.get_window_extent() for artist in (heading, *filter(None, legends))]
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 for box in boxes)
