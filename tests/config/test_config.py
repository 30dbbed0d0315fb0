import dataclasses
from typing import Any

import pytest
import yaml

from dynrcnn_ray.config.scales import SCALES, base_config
from dynrcnn_ray.config.stored import from_stored, to_stored
from dynrcnn_ray.config.trial import NOT_FOUND_YET, Inputs, Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, field_paths, from_yaml, to_yaml, validate, with_values
from dynrcnn_ray.experiment.sweep import read_sweep


def change(config: TrialConfig, **sections: dict[str, Any]) -> TrialConfig:
    replaced = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in sections.items()}
    return dataclasses.replace(config, **replaced)


PREPARED = change(base_config("mini"), data={"root": "/here"}, model={"weights": "none"})
FOUND = Inputs(data="abc", data_root="/here")


def ident(config: TrialConfig, **found: str) -> str:
    """The id of a trial with these inputs."""
    return Trial(config, dataclasses.replace(FOUND, **found)).trial_id


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_is_valid_and_survives_yaml(scale):
    config = base_config(scale)
    assert validate(config) == config
    assert from_yaml(to_yaml(config)) == config


@pytest.mark.parametrize(
    "same",
    [
        {"run": {"num_workers": 4, "cpus_per_worker": 2, "log_every": 7, "checkpoint_every": 3, "gpu": True}},
        {"data": {"root": "/there"}},
    ],
)
def test_what_a_run_merely_needs_does_not_change_its_id(same):
    assert ident(change(PREPARED, **same)) == ident(PREPARED)
    assert ident(dataclasses.replace(PREPARED, scale="coco")) == ident(PREPARED)


@pytest.mark.parametrize(
    "other",
    [
        {"train": {"global_batch": 4}},
        {"train": {"steps": 601}},
        {"dynamic": {"dla": False}},
        {"dynamic": {"update_interval": 21}},
        {"data": {"train_short_sides": (64, 128)}},
        {"model": {"backbone": "resnet18"}},
        {"model": {"deformable": True}},
        {"test": {"soft_nms": "linear"}},
    ],
)
def test_what_decides_the_result_changes_the_id(other):
    assert ident(change(PREPARED, **other)) != ident(PREPARED)


ONE_STAGE = {"model": {"name": "retinanet"}, "dynamic": {"dla": False, "dsl": False}}
FIXED = {"dynamic": {"dla": False, "dsl": False}}
OF_ONE_STAGE = [
    *(("dynamic", name) for name in ("convention", "all_reduce", "count_ground_truths", "iou_top_k", "beta_top_k")),
    *(("dynamic", name) for name in ("initial_iou", "initial_beta", "fixed_iou", "fixed_beta")),
    *(("model", name) for name in ("rpn_nms_iou", "positive_fraction")),
]
OTHER_VALUES = {
    "convention": "released",
    "all_reduce": False,
    "count_ground_truths": False,
    "multi_scale_short_sides": (64,),
    "warmup_steps": 7,
}


@pytest.mark.parametrize(
    ("without", "section", "field", "reading"),
    [
        ({}, "data", "val_seed", {"data": {"val_fraction": 0.2}}),
        ({}, "data", "train_long_side", {"data": {"train_short_sides": (64,)}}),
        ({"train": {"warmup_steps": 0}}, "train", "warmup_factor", {"train": {"warmup_steps": 5}}),
        ({"train": {"warmup_factor": 1.0}}, "train", "warmup_steps", {"train": {"warmup_factor": 0.5}}),
        ({}, "test", "multi_scale_short_sides", {"test": {"multi_scale": True}}),
        ({}, "test", "multi_scale_long_side", {"test": {"multi_scale": True}}),
        (
            {"test": {"multi_scale": True, "multi_scale_short_sides": ()}},
            "test",
            "multi_scale_long_side",
            {"test": {"multi_scale": True, "multi_scale_short_sides": (90,)}},
        ),
        ({}, "test", "soft_nms_min_score", {"test": {"soft_nms": "linear"}}),
        ({}, "test", "soft_nms_min_score", {"test": {"soft_nms": "gaussian"}}),
        ({"test": {"soft_nms": "gaussian"}}, "test", "soft_nms_iou", {"test": {"soft_nms": "linear"}}),
        ({"test": {"soft_nms": "linear"}}, "test", "soft_nms_sigma", {"test": {"soft_nms": "gaussian"}}),
        ({}, "dynamic", "fixed_iou", FIXED),
        ({}, "dynamic", "fixed_beta", FIXED),
        *((ONE_STAGE, *field, FIXED) for field in OF_ONE_STAGE),
        # Somebody's own module may read what it likes.
        (ONE_STAGE, "dynamic", "iou_top_k", ONE_STAGE | {"model": {"name": "retinanet", "module": "mine.py"}}),
    ],
)
def test_a_field_that_nothing_reads_does_not_change_the_id(without: dict, section: str, field: str, reading: dict):
    """And where it is read it does."""

    def changes_the_id(sections: dict[str, dict[str, Any]]) -> bool:
        base = change(PREPARED, **sections)
        value = getattr(getattr(base, section), field)
        other = OTHER_VALUES[field] if field in OTHER_VALUES else value / 2 if isinstance(value, float) else value + 1
        assert value != other
        return ident(change(base, **{section: {field: other}})) != ident(base)

    assert not changes_the_id(without)
    assert changes_the_id(reading)


def test_the_seed_is_in_the_id():
    assert ident(dataclasses.replace(PREPARED, seed=1)) != ident(PREPARED)


def test_data_count_by_their_content():
    assert ident(PREPARED, data_root="/there") == ident(PREPARED)
    assert ident(PREPARED, data="abd") != ident(PREPARED)


@pytest.mark.parametrize("name", ["weights", "detector_weights", "module"])
def test_a_file_counts_by_its_content(name: str):
    one, moved = (change(PREPARED, model={name: path}) for path in ("/a", "/b"))
    assert ident(moved, **{name: "1"}) == ident(one, **{name: "1"})
    assert ident(one, **{name: "2"}) != ident(one, **{name: "1"})
    assert ident(moved) != ident(one), "as long as nobody has looked at it"


def test_shards_decide_and_workers_never_do():
    for own in ({}, {"convention": "released"}, {"convention": "mmdetection"}, {"all_reduce": False}):
        trial = change(PREPARED, dynamic=own)
        assert ident(change(trial, train={"shards": 4})) != ident(trial)
        assert {ident(change(trial, run={"num_workers": n, "min_workers": n // 2})) for n in (1, 2, 4)} == {
            ident(trial)
        }


@pytest.mark.parametrize(("batch", "shards"), [(16, 8), (32, 8), (8, 2), (4, 2), (20, 4), (5, 1)])
def test_earlier_releases_trained_so_many_shards_and_their_ids_say_nothing_of_them(batch: int, shards: int):
    """A shard a worker: 8 GPUs of COCO, 2 workers of a smaller batch."""
    config = change(PREPARED, train={"global_batch": batch, "shards": shards})
    as_before = to_stored(Trial(config, FOUND)).replace(f"  shards: {shards}\n", "")
    assert from_stored(as_before).config.train.shards == shards
    assert ident(config) != ident(change(config, train={"shards": 2 * shards}))


def test_where_an_earlier_release_let_workers_decide_they_are_its_shards():
    for lines in (
        "run: {num_workers: 4, distinct_by_workers: true}",
        "run: {num_workers: 4}\ndynamic: {all_reduce: false}",
    ):
        config = from_stored(f"{lines}\n").config
        assert (config.train.shards, config.run.num_workers) == (4, 4)
    many = from_stored("run: {num_workers: 4, min_workers: 3}\ntrain: {global_batch: 8}\n").config
    assert (many.train.shards, many.run.num_workers, many.run.min_workers) == (2, 2, 2), "it is known as that of two"


def test_what_does_not_go_with_the_shards_is_refused():
    with pytest.raises(ConfigError, match=r"train\.shards: 8 does not divide train\.global_batch = 12; "):
        from_yaml("train: {global_batch: 12}")
    with pytest.raises(ConfigError, match=r"run\.num_workers: 9 is above train\.shards = 8, .* choose at most 8"):
        from_yaml("run: {num_workers: 9}")
    assert from_yaml("run: {num_workers: 5, min_workers: 3}\ndynamic: {all_reduce: false}").run.num_workers == 5


@pytest.mark.parametrize(("cores", "threads"), [(0.125, 1), (1, 1), (2.5, 2), (4, 4)])
def test_workers_that_share_a_core_have_one_thread_each(cores: float, threads: int):
    config = change(PREPARED, run={"cpus_per_worker": cores})
    assert config.run.threads_per_worker == threads
    assert from_yaml(to_yaml(config)) == config


def test_ids_do_not_change_from_release_to_release():
    """If this fails, trials in people's stores are no longer found: raise _ID_VERSION only if results change."""
    assert ident(PREPARED) == "1b692ce48685"


@pytest.mark.parametrize(("rois", "iou_top_k", "beta_top_k"), [(512, 75, 10), (128, 19, 3), (256, 38, 5), (1, 1, 1)])
def test_ranks_are_in_proportion_to_the_rois(rois: int, iou_top_k: int, beta_top_k: int):
    config = change(TrialConfig(), model={"rois_per_image": rois})
    assert (config.iou_top_k, config.beta_top_k) == (iou_top_k, beta_top_k)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {steps: 0}", "train.steps: 0 must be greater than or equal to 1"),
        ("train: {stepz: 5}", "train.stepz: unknown field"),
        ("train: {steps: many}", "train.steps: 'many' must be a valid integer"),
        ("dynamic: {convention: mine}", "dynamic.convention: 'mine' must be 'paper', 'mmdetection' or 'released'"),
        ("train: {learning_rate: .nan}", "train.learning_rate: nan must be a finite number"),
        ("run: {cpus_per_worker: 0}", "run.cpus_per_worker: 0 must be greater than or equal to 0.01"),
        ("train: {shards: 3}", "train.shards: 3 does not divide"),
        ("model: {backbone: tiny}", "model.weights: 'imagenet' fits a ResNet"),
        ("model: {weights: shapes}", "model.weights: 'shapes' fits tiny and small with group_norm, not resnet50 with"),
        ("model: {backbone: tiny, weights: shapes}", "not tiny with frozen_batch_norm; choose those"),
        ("{model: {weights: a.npz}, data: {shapes: {seed: 4242}}}", "data.shapes.seed: 4242 makes the images on which"),
        (
            "model: {backbone: resnet34, weights: none, stride_in_1x1: true}",
            "model.stride_in_1x1: resnet34 has no bottlenecks",
        ),
        ("train: {precision: float16}", "train.precision: 'float16' needs a GPU"),
        ("model: {name: cascade_rcnn}", "model.name: 'cascade_rcnn' trains at fixed thresholds"),
        ("train: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 20_000, "not valid YAML"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ('"a\\nb": 5', "a b: unknown field"),
        ("5", "must be a mapping"),
        ("seed: 1\ntrain: {steps: 5}\nseed: 2", "'seed' stands twice"),
        ("train: {steps: 5, steps: 6}", "'steps' stands twice"),
        ("seed: '3'", "seed: '3' must be a valid integer"),
        ("seed: true", "seed: True must be a valid integer"),
        ("seed: 1:30", "seed: '1:30' must be a valid integer"),
        ("data: {train_split: 2017}", "data.train_split: 2017 must be a valid string"),
        ("data: {train_split: 2001-12-14, val_split: !!timestamp 2001-12-14}", "date is not JSON serializable"),
        ("data: {no: 3}", "the name no may be read as a number or a truth value; quote it"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(text: str, message: str):
    with pytest.raises(ConfigError) as refused:
        from_yaml(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


AMBIGUOUS = ("1e3", "1234567e12", "08", "064", "0o17", "1:30", "no", "null", "~", "", "1_000", "2001-12-14", ".inf")


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_text_stays_a_text_to_every_reader(name: str):
    """Fingerprints are hexadecimal: one in some hundreds looks like a number."""
    config = change(TrialConfig(), data={"train_split": name})
    trial = Trial(config, Inputs(data=name))
    text = to_stored(trial)
    assert from_yaml(to_yaml(config)) == config
    assert from_stored(text) == trial
    assert yaml.safe_load(text)["data"]["train_split"] == name
    as_before = yaml.safe_dump(yaml.safe_load(text), sort_keys=False)
    assert from_stored(as_before) == trial, "as a release wrote it that knew YAML 1.1 alone"


def test_a_configuration_is_read_by_yaml_1_2():
    config = from_yaml("train: {steps: 064, learning_rate: 1e-3}\ndata: {train_split: no, val_split: 1:30}")
    assert (config.train.steps, config.train.learning_rate) == (64, 0.001)
    assert (config.data.train_split, config.data.val_split) == ("no", "1:30")


OF_EARLIER_RELEASES = (
    "data.fingerprint",
    "data.source_root",
    *(f"model.{name}_fingerprint" for name in ("weights", "detector_weights", "module")),
)


@pytest.mark.parametrize("path", OF_EARLIER_RELEASES)
def test_what_is_found_by_itself_is_no_field(path: str):
    """Earlier releases printed it empty in `show`, and that is read."""
    section, _, field = path.partition(".")
    assert path not in field_paths(TrialConfig())
    assert from_yaml(f"{section}: {{{field}: ''}}") == TrialConfig()
    refused = rf"^{path}: 'abc' is found by itself before a run; leave it out"
    with pytest.raises(ConfigError, match=refused):
        from_yaml(f"{section}: {{{field}: abc}}")
    with pytest.raises(ConfigError, match=refused):
        with_values(TrialConfig(), {path: "abc"})
    grid = read_sweep(f"axes: {{{path}: [abc, abd]}}", "mine").experiment(())
    with pytest.raises(ConfigError, match=refused):
        grid.rows(TrialConfig())


def test_the_inputs_of_a_row_are_no_part_of_a_configuration():
    with pytest.raises(
        ConfigError, match=r"^inputs: what a trial reads is found by itself before a run; leave it out$"
    ):
        from_yaml(to_stored(Trial(TrialConfig(), FOUND)))


@pytest.mark.parametrize("found", [NOT_FOUND_YET, Inputs("1e3", "/copy", "2", "3", "4")])
def test_a_trial_survives_its_row(found: Inputs):
    trial = Trial(change(TrialConfig(), data={"root": "/own"}), found)
    assert from_stored(to_stored(trial)) == trial


@pytest.mark.parametrize(
    ("old", "root"),
    [
        ("data: {root: /own, fingerprint: abc, source_root: ''}", "/own"),
        ("data: {root: /cache/abc, fingerprint: abc, source_root: /own}", "/own"),
        ("data: {root: /cache/shapes-1, fingerprint: shapes-1, source_root: ''}", ""),
        (
            "data: {root: /cache/abc, fingerprint: abc, train_annotations: a, train_images: b, val_annotations: c, "
            "val_images: d}",
            "",
        ),
    ],
)
def test_a_row_of_an_earlier_release_is_the_same_trial(old: str, root: str):
    """Its configuration is as it was given, and what had been filled in are inputs."""
    text = f"{old}\nmodel: {{weights: /a.pth, weights_fingerprint: '12', module_fingerprint: 1e3}}"
    trial = from_stored(text)
    read = yaml.safe_load(text)
    assert trial.config.data.root == root
    assert trial.inputs == Inputs(
        data=read["data"]["fingerprint"], data_root=read["data"]["root"], weights="12", module="1e3"
    )
    assert from_stored(to_stored(trial)) == trial
