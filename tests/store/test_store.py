import threading

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from dynrcnn_ray.store.files import StoreError, StoreFiles
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.store.schemas import DYNAMICS, PLAN, TRIALS, VERSION_KEY


def test_trial_round_trip_keeps_values_units_and_version(store, tmp_path, make_trial):
    store.write_trial(make_trial("a", AP50=81.25))

    [row] = store.trials().to_dict("records")
    assert (row["trial_id"], row["AP"], row["AP50"]) == ("a", 50.0, 81.25)
    assert row["packages"] == {"torch": "2.8.0", "ray": "2.50.0"}
    assert row["finished_at"] == pd.Timestamp("2025-01-01", tz="UTC")
    schema = pq.read_schema(tmp_path / "storage/trials/a.parquet")
    assert schema.field("AP").metadata[b"unit"] == b"percent"
    assert schema.metadata[VERSION_KEY] == b"8"


@pytest.mark.parametrize("schema", [TRIALS, DYNAMICS, PLAN])
def test_every_field_has_a_unit(schema):
    assert all(field.metadata[b"unit"] for field in schema)


def test_dynamics_round_trip_in_order_and_for_the_asked_trials_only(store):
    store.write_dynamics("a", [{"step": 20, "T_now": 0.4}, {"step": 40, "T_now": 0.45}])
    store.write_dynamics("b", [{"step": 20}])

    steps = store.dynamics(["a", "never run"])

    assert steps["trial_id"].tolist() == ["a", "a"]
    assert steps["step"].tolist() == [20, 40]
    assert steps["T_now"].tolist() == [0.4, 0.45]


def test_plan_round_trip_keeps_the_order_of_labels_and_metrics(table3_store):
    plan = table3_store.plan("table3")

    assert list(plan["labels"][3]) == ["DLA", "DSL"]
    assert list(plan["metrics"][0]) == ["AP", "AP50", "AP90"]
    assert plan["reported"][0] == {"AP": 37.0, "AP50": 58.0, "AP90": 9.7}
    assert table3_store.experiments() == ["table3"]
    assert table3_store.plan("table4") is None


def test_an_empty_store_reads_as_empty(store):
    assert store.finished_trials() == set()
    assert store.experiments() == []
    assert list(store.trials().columns) == TRIALS.names
    assert list(store.dynamics(["a"]).columns) == DYNAMICS.names


def test_only_finished_trials_count_and_a_new_run_replaces_a_failed_row(store, make_trial):
    store.write_trial(make_trial("a"))
    store.write_trial(make_trial("b", status="failed", error="out of memory", AP=None))
    assert store.finished_trials() == {"a"}

    store.write_trial(make_trial("b"))

    assert store.finished_trials() == {"a", "b"}
    assert len(store.trials()) == 2


def test_a_trial_that_runs_is_known_until_its_row_is_written(store, make_trial):
    store.write_trial(make_trial("a"))
    store.write_trial(make_trial("again", status="failed", error="out of memory", AP=None))
    for trial_id in ("again", "new"):
        store.write_running(make_trial(trial_id, status="running", last_good_step=200, AP=None))

    columns = ["trial_id", "status", "last_good_step"]
    rows = store.trials_so_far(columns=columns).set_index("trial_id")
    assert rows["status"].to_dict() == {"a": "finished", "again": "running", "new": "running"}
    assert rows.loc["new", "last_good_step"] == 200
    assert store.trials_so_far(["a", "new"], columns)["trial_id"].tolist() == ["a", "new"]
    assert store.trial_ids() == ["a", "again"]
    assert store.finished_trials() == {"a"}

    store.write_trial(make_trial("new"))
    assert store.trials_so_far(["new"], columns)["status"].tolist() == ["finished"]
    # As a process that is killed between the two leaves it.
    store.write_running(make_trial("new", status="running"))
    assert store.trials_so_far(["new"], columns)["status"].tolist() == ["finished"]


def test_plain_pandas_reads_the_whole_folder(store, tmp_path, make_trial):
    store.write_trial(make_trial("a"))
    store.write_trial(make_trial("b", AP=None))

    assert sorted(pd.read_parquet(tmp_path / "storage/trials")["trial_id"]) == ["a", "b"]


def test_a_uri_and_a_path_are_the_same_store(store, tmp_path, make_trial):
    store.write_trial(make_trial("a"))
    by_uri = ResultStore.open(f"file://{tmp_path}/storage")

    assert by_uri.finished_trials() == {"a"}
    assert (
        by_uri.files.describe_path("tables/x.md")
        == store.files.describe_path("tables/x.md")
        == f"{tmp_path}/storage/tables/x.md"
    )


def test_a_uri_is_described_without_its_credentials():
    store = ResultStore.open("s3://key:secret@bucket/folder?region=eu-west-1")

    assert store.files.describe_path("tables/x.md") == "s3://bucket/folder/tables/x.md"


def test_a_filesystem_without_folders_and_renames(make_trial):
    memory = fsspec.filesystem("memory", skip_instance_cache=True)
    remote = ResultStore(StoreFiles(pafs.PyFileSystem(pafs.FSSpecHandler(memory)), "bucket/folder", "memory"))
    remote.write_trial(make_trial("a"))

    assert remote.finished_trials() == {"a"}
    assert remote.files.describe_path("trials") == "memory://bucket/folder/trials"


def test_writers_of_one_trial_leave_one_whole_file_and_readers_never_see_half(store, tmp_path, make_trial):
    seen, failures = set(), []
    store.write_trial(make_trial("a", AP=0.0))

    def write(value):
        for _ in range(30):
            store.write_trial(make_trial("a", AP=value, config="x" * 200_000))

    def read():
        try:
            for _ in range(60):
                seen.add(store.trials()["AP"][0])
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in (1.0, 2.0)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert seen <= {0.0, 1.0, 2.0}
    assert [path.name for path in (tmp_path / "storage/trials").iterdir()] == ["a.parquet"]
    assert not list((tmp_path / "storage/.partial").iterdir())


@pytest.mark.parametrize(
    ("version", "lacking"),
    [
        (b"1", ["startup_seconds", "last_good_step"]),
        (b"2", ["startup_seconds", "last_good_step"]),
        (b"5", ["AR1", "segm_AR100"]),
    ],
)
def test_an_older_file_is_read_with_nulls_for_the_fields_it_lacks(store, tmp_path, make_trial, version, lacking):
    store.write_trial(make_trial("old", **dict.fromkeys(lacking, 3)))
    store.write_trial(make_trial("new", **dict.fromkeys(lacking, 4)))
    path = tmp_path / "storage/trials/old.parquet"
    older = pq.read_table(path).drop_columns(lacking).replace_schema_metadata({VERSION_KEY: version})
    pq.write_table(older, path)
    assert not set(lacking) & set(pq.read_schema(path).names)

    trials = store.trials().set_index("trial_id")

    assert trials.loc["old", lacking].isna().all()
    assert trials.loc["new", lacking].tolist() == [4, 4]
    assert trials.loc["old", ["AP", "steps", "status"]].tolist() == [50.0, 600, "finished"]
    assert store.finished_trials() == {"old", "new"}


def test_a_field_of_an_older_file_is_known_by_its_name_of_today(store, tmp_path):
    row = {"step": 1, "T_now": 0.5, "beta_now": 1.0, "iou_threshold": 0.5, "smooth_l1_beta": 1.0, "loss": 1.0}
    store.write_dynamics("old", [row | {"shard_T_now": [0.5, 0.6], "shard_beta_now": [1.0, 0.9]}])
    path = tmp_path / "storage/dynamics/old.parquet"
    table = pq.read_table(path)
    names = [name.replace("shard_", "worker_") for name in table.schema.names]
    pq.write_table(table.rename_columns(names).replace_schema_metadata({VERSION_KEY: b"6"}), path)

    (found,) = store.dynamics(["old"], ["trial_id", "step", "shard_beta_now", "shard_T_now"]).to_dict("records")

    assert [found["step"], list(found["shard_T_now"]), list(found["shard_beta_now"])] == [1, [0.5, 0.6], [1.0, 0.9]]


@pytest.mark.parametrize("field", ["scale", "finished_at"])
def test_an_older_file_that_lacks_a_required_field_is_refused(store, tmp_path, make_trial, field):
    store.write_trial(make_trial("old"))
    path = tmp_path / "storage/trials/old.parquet"
    pq.write_table(pq.read_table(path).drop_columns([field]).replace_schema_metadata({VERSION_KEY: b"1"}), path)

    with pytest.raises(StoreError, match="has other fields"):
        store.trials()


def write_truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def write_foreign(path):
    pq.write_table(pa.table({"x": [1]}), path)


def write_other_version(path):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"0"}), path)


def write_other_fields(path):
    pq.write_table(pq.read_table(path).drop_columns(["AP"]), path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (write_truncated, "is damaged: its content does not match its checksum; move it away"),
        (write_foreign, "was not written by dynrcnn_ray"),
        (write_other_version, "has schema version 0, this release reads 1, 2, 3"),
        (write_other_fields, "has other fields"),
    ],
)
def test_a_file_that_does_not_belong_is_named_in_one_line(store, tmp_path, damage, reason, make_trial):
    store.write_trial(make_trial("a"))
    path = tmp_path / "storage/trials/a.parquet"
    damage(path)

    with pytest.raises(StoreError, match=reason) as caught:
        store.trials()

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_storage_that_cannot_be_written(tmp_path, make_trial):
    (tmp_path / "file").write_text("in the way")
    store = ResultStore.open(tmp_path / "file" / "storage")

    with pytest.raises(StoreError, match=r"cannot be written.*choose another storage"):
        store.write_trial(make_trial("a"))


def test_an_unknown_scheme():
    with pytest.raises(StoreError, match="use a local path"):
        ResultStore.open("nowhere://bucket/folder")


def test_a_row_that_does_not_fit_is_not_written(store, make_trial):
    with pytest.raises(StoreError, match=r"unknown fields \['APP'\], missing fields \['scale'\]"):
        store.write_trial(make_trial("a", APP=1.0, scale=None))
    with pytest.raises(StoreError, match="does not fit its schema"):
        store.write_trial(make_trial("a", AP="fifty"))

    assert store.finished_trials() == set()
