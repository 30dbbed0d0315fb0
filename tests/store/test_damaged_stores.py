"""A finished store whose files are damaged: what is drawn is true, or a line names the file and the remedy."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynrcnn_ray.report.html.page import draw_html_report
from dynrcnn_ray.report.table_text import table_to_text
from dynrcnn_ray.report.tables import build_table
from dynrcnn_ray.store.files import StoreError
from dynrcnn_ray.store.parquet import CHECKSUM_KEY
from dynrcnn_ray.store.results_store import ResultStore
from tests.mutations import mutate


def read_everything(store: ResultStore) -> list[object]:
    """All that commands read of a Table 3: what is finished, the table, the trends' numbers, the page."""
    plan = store.plan("table3")
    if plan is None:
        return [None]
    table = build_table(plan, store.trials(plan["trial_id"].dropna()))
    finished = sorted(store.finished_trials())
    page = Path(draw_html_report(store, store.trials(), ())).read_text().split("; drawn ")
    steps = store.dynamics(finished).to_csv()
    return [finished, table_to_text(table, plan), steps, page[0], page[1][20:]]


@contextlib.contextmanager
def restored(root: Path) -> Iterator[None]:
    """The store as it was, whatever happens to it meanwhile."""
    saved = root.with_name("saved")
    shutil.copytree(root, saved)
    try:
        yield
    finally:
        shutil.rmtree(root)
        saved.rename(root)


def files_of(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.parquet"))


def without_checksums(root: Path) -> None:
    """As older releases wrote them."""
    for path in files_of(root):
        pq.write_table(pq.read_table(path, partitioning=None), path)
        assert CHECKSUM_KEY.encode() not in path.read_bytes()


@pytest.fixture
def small_store(table3_store: ResultStore) -> ResultStore:
    """The plan of a whole Table 3, but two rows and two seeds of it: few files, so that each is damaged often."""
    root = Path(table3_store.files.root)
    for path in files_of(root):
        if path.stem != "table3" and ("row2" in path.stem or "row3" in path.stem or "seed2" in path.stem):
            path.unlink()
    return table3_store


@pytest.fixture
def truth(small_store: ResultStore) -> list[object]:
    return read_everything(small_store)


@pytest.fixture
def old_store(small_store: ResultStore) -> ResultStore:
    without_checksums(Path(small_store.files.root))
    return small_store


@pytest.mark.slow
@settings(max_examples=120, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_true_numbers_or_a_line_that_names_the_file(
    small_store: ResultStore, truth: list[object], data: st.DataObject
) -> None:
    root = Path(small_store.files.root)
    with restored(root):
        files = files_of(root)
        damaged = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2, unique=True))
        for path in damaged:
            if data.draw(st.integers(0, 4)) == 0:
                path.write_bytes(data.draw(st.sampled_from(files)).read_bytes())
            else:
                path.write_bytes(mutate(data.draw, path.read_bytes()))
        try:
            assert read_everything(small_store) == truth
        except StoreError as error:
            text = str(error)
            assert "\n" not in text
            assert any(text.startswith(f"{path} ") for path in damaged), text
            assert "; move it" in text, text


@pytest.mark.slow
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_files_without_a_checksum_are_refused_in_a_line_or_read(old_store: ResultStore, data: st.DataObject) -> None:
    root = Path(old_store.files.root)
    with restored(root):
        path = data.draw(st.sampled_from(files_of(root)))
        path.write_bytes(mutate(data.draw, path.read_bytes()))
        with contextlib.suppress(StoreError):
            read_everything(old_store)


def test_files_without_a_checksum_are_read_as_before(truth: list[object], old_store: ResultStore) -> None:
    assert read_everything(old_store) == truth
