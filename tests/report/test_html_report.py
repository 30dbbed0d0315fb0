"""report.html: whole, self-contained, escaped, whatever the store holds."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dynrcnn_ray.cli.program import program
from dynrcnn_ray.paper.drawn import figures_of_stored
from dynrcnn_ray.paper.speed_table import SPEED_FILE, speed_parquet
from dynrcnn_ray.report.html.charts import line_chart
from dynrcnn_ray.report.html.page import draw_html_report, read_trials
from dynrcnn_ray.report.report import draw_report
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import SPEED
from dynrcnn_ray.tools.inspect.inspection import write_inspection
from tests.stored_table import dynamics_rows, table3_plan

SECTIONS = program().page_sections()
VOID = {"meta", "img", "image", "rect", "line", "polyline"}


class Page(HTMLParser):
    """Ids, links, text and the balance of tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            if name in ("href", "src"):
                self.links.append(value)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(store: ResultStore, *, figures: bool = False) -> Page:
    """The page of a store, after its tables have been drawn, and its figures where they are asked for."""
    trials = read_trials(store)
    drawn = {
        name: draw_report(store, name, figures_of_stored(name) if figures else (), trials)
        for name in store.experiments()
    }
    page = Path(draw_html_report(store, trials, SECTIONS)).read_text()
    with_drawn_tables = Path(draw_html_report(store, trials, SECTIONS, drawn)).read_text()
    assert without_clock(with_drawn_tables) == without_clock(page)
    return Page(page)


def without_clock(page: str) -> str:
    return re.sub(r"drawn .* UTC", "", page)


def add_pictures(store: ResultStore, fingerprint: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "JPEG")
    store.write_images(
        fingerprint,
        [
            {
                "image_id": 7,
                "file_name": "a<b.jpg",
                "width": 64,
                "height": 48,
                "jpeg": stream.getvalue(),
                "boxes": [[1.0, 2.0, 30.0, 40.0]],
                "box_categories": [1],
                "category_names": [(1, "cell")],
            }
        ],
    )


def add_detections(store: ResultStore, trial_id: str, score: float) -> None:
    corners = {
        name: np.array([value], np.float32)
        for name, value in zip(("x1", "y1", "x2", "y2"), (2, 3, 31, 39), strict=True)
    }
    ids = {"image_id": np.array([7]), "category_id": np.array([1])}
    store.write_detections(trial_id, {**ids, "score": np.array([score], np.float32), **corners})


@pytest.mark.slow
def test_every_part_is_there_and_nothing_comes_from_elsewhere(table3_store: ResultStore):
    page = page_of(table3_store, figures=True)
    assert {"table3", "trials"} <= page.ids
    for text in ("Table 3", "12.6", "python experiments/main.py", "Differences to the baseline", "T_now"):
        assert text in page.text
    assert page.tags.count("details") >= len(table3_store.trials())
    assert any(link.startswith("data:image/svg+xml") for link in page.links)
    outside = [link for link in page.links if not link.startswith(("data:", "#", "tables/"))]
    assert outside == []
    for link in page.links:
        if link.startswith("tables/"):
            assert (Path(table3_store.files.root) / link).is_file()
    assert "script" not in page.tags


@pytest.mark.slow
def test_detections_are_drawn_over_the_image(table3_store: ResultStore, make_trial):
    config = "data: {fingerprint: abc}\ndynamic: {dla: false, update_interval: 20}\n"
    for trial_id, score in (("row0seed0", 0.9), ("row3seed0", 0.8), ("row2seed0", 0.2)):
        table3_store.write_trial(make_trial(trial_id, seed=0, AP=50.0 + int(trial_id[3]), config=config))
        add_detections(table3_store, trial_id, score)
    add_pictures(table3_store, "abc")
    page = page_of(table3_store)
    assert "detections" in page.ids
    assert page.tags.count("image") == 2
    # Two dashed ground truths and a detection in each.
    assert page.tags.count("rect") == 4
    assert "cell 0.90" in page.text
    assert "a<b.jpg" in page.text


@pytest.mark.slow
def test_a_failed_trial_shows_its_reason_and_no_markup_of_its_own(store: ResultStore, table3_store, make_trial):
    store.write_trial(
        make_trial(
            "row1seed0",
            status="failed",
            error="<script>alert(1)</script> at step 5",
            traceback="Traceback (most recent call last):\n  File <x>",
            last_good_step=4,
        )
    )
    page = page_of(store)
    assert "File <x>" in page.text
    assert "<script>alert(1)</script> at step 5" in page.text
    assert "script" not in page.tags
    assert "last good step" in page.text


@pytest.mark.slow
def test_a_trial_that_runs_shows_where_it_stands_and_its_curves(store: ResultStore, table3_store, make_trial):
    """A row of it is in no table yet; the next drawing has it."""
    (Path(store.files.root) / "trials" / "row3seed0.parquet").unlink()
    store.write_running(make_trial("row3seed0", status="running", last_good_step=400, AP=None, steps=600))
    page = page_of(store)
    assert "11 finished trials, 0 failed, 1 running" in page.text
    assert "running, checkpoint at step 400 of 600, written 2025-01-01 00:00 UTC" in page.text
    assert page.text.count("beta_now (normalised offset)") == 12


@pytest.mark.slow
def test_a_trial_that_ended_with_fewer_workers_says_so(store: ResultStore, table3_store, make_trial):
    store.write_trial(make_trial("row1seed0", num_workers=8, workers_at_end=7))
    assert "workers: 8, at the end 7" in page_of(store).text


@pytest.mark.slow
@pytest.mark.parametrize(("kept_iou", "reason"), [(0, "the median error was zero"), (28, "no image had a positive")])
def test_why_updates_kept_the_old_value_is_explained(store, table3_store, make_trial, kept_iou: int, reason: str):
    """The table says how many; what is said below it of the reason agrees with the counts and with the title."""
    config = "data: {fingerprint: abc}\ndynamic: {dla: true, update_interval: 20}\n"
    kept = {"kept_iou_updates": kept_iou, "kept_beta_updates": 30}
    store.write_trial(make_trial("row3seed0", config=config, steps=600, final_T_now=0.9, **kept))
    page = page_of(store)
    assert "no image had a positive proposal, or, of beta_now, the median error was zero" in page.text
    (said,) = re.findall(r"In 1 of 12 trials most updates [^.]*\.", page.text)
    assert reason in said
    assert ("Raise dynamic.beta_top_k" in page.text) == (kept_iou == 0)
    assert "Raise dynamic.iou_top_k" in page.text
    assert "nothing to measure" not in page.text


@pytest.mark.slow
def test_commands_on_the_page_name_their_store(store: ResultStore, table3_store, tmp_path: Path):
    names = {"category_id": 1, "name": "cell", "objects": 3, "detections": 4, "found_as": [2, 1]}
    error = {"kind": "Cls", "meaning": "another class", "count": 1, "AP50_gain": 0.5, "min_score": 0.5}
    write_inspection(store, "row3seed0", [names], [error])
    store.files.write_bytes(SPEED_FILE, speed_parquet([speed_row(kind) for kind in ("Dynamic", "Cascade")]))
    text = page_of(store).text
    assert f"dynrcnn inspect row3seed0 --storage {tmp_path}/storage\n" in text
    assert f"dynrcnn table7 --storage {tmp_path}/storage\n" in text


def speed_row(kind: str) -> dict[str, object]:
    speeds = [field.name for field in SPEED if "images_per_second" in field.name or "quartile" in field.name]
    return {"backbone": "tiny", "model": f"{kind} R-CNN", **dict.fromkeys(speeds, 1.0)} | {
        "scale": "smoke",
        "rounds": 3,
        "hardware": "a CPU",
    }


def test_a_configuration_of_another_release_costs_a_warning_and_not_the_page(
    store: ResultStore, table3_store, make_trial
):
    store.write_trial(make_trial("row3seed0", config="dynamic: {unheard_of: 1}\n"))
    assert "row3seed0" in page_of(store).text


@pytest.mark.slow
def test_many_trials_are_a_plain_table(store: ResultStore, make_trial):
    for index in range(201):
        store.write_trial(make_trial(f"trial{index:04d}", seed=index))
    page = page_of(store)
    from_whole_rows = Path(draw_html_report(store, store.trials(), SECTIONS)).read_text()
    trials = read_trials(store)
    assert "packages" not in trials, "a field that no page of many trials shows"
    assert without_clock(Path(draw_html_report(store, trials, SECTIONS)).read_text()) == without_clock(from_whole_rows)
    assert "only their numbers" in page.text
    assert "polyline" not in page.tags
    assert "trial0200" in page.text


def test_a_figure_is_named_and_a_missing_one_says_so(store: ResultStore):
    store.write_plan("figure4", [])
    page = page_of(store, figures=True)
    assert "Figure 4" in page.text
    assert pq.read_table(Path(store.files.root) / "plans/figure4.parquet").num_rows == 0
    assert "img" in page.tags


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["table3", "figure5"])
def test_a_figure_of_an_earlier_plan_is_not_shown(store: ResultStore, make_trial, experiment: str):
    """Its file stays until a trial of the new plan has finished."""
    line = {**table3_plan()[0], "trial_id": "earlier"}
    store.write_dynamics("earlier", dynamics_rows(0, seed=0))
    store.write_trial(make_trial("earlier"))
    store.write_plan(experiment, [line])
    assert "img" in page_of(store, figures=True).tags
    store.write_plan(experiment, [{**line, "trial_id": "later"}])
    assert "img" not in page_of(store, figures=True).tags
    store.write_running(make_trial("later", status="running", AP=None))
    page = page_of(store, figures=True)
    assert "img" not in page.tags
    assert "No finished trial has recorded what the figure shows." in page.text


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_a_chart_of_nothing_is_nothing(values: list[float]):
    assert line_chart("loss", list(range(len(values))), {"loss": values}) is None
