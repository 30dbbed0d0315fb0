"""A trial as text in the store, of this release and of earlier ones."""

import dataclasses
from typing import Any

from dynrcnn_ray.config.sections import RunConfig, TrainConfig
from dynrcnn_ray.config.trial import Inputs, Trial, shards_of_earlier_releases
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import FORMER_INPUTS, FORMER_ROOT, adapter, parse_tree, taken, tree_of, validate
from dynrcnn_ray.config.yaml_text import dump, load_stored


def to_stored(trial: Trial) -> str:
    """A trial as its row in the store has it: the whole configuration as YAML, and its inputs."""
    config = adapter(TrialConfig).dump_python(trial.config, mode="json")
    return dump(config | {"inputs": dataclasses.asdict(trial.inputs)})


def from_stored(text: str) -> Trial:
    """Read a trial that `to_stored` wrote, of this release or of an earlier one.

    Raises:
        ConfigError: as `from_yaml`.
    """
    tree = tree_of(text, "the configuration", load_stored)
    inputs = tree.pop("inputs") if "inputs" in tree else _inputs_of_earlier_release(tree)
    _add_shards_to_earlier_release(tree)
    return Trial(validate(parse_tree(tree)), parse_tree(inputs, Inputs))


def _inputs_of_earlier_release(tree: dict[str, Any]) -> dict[str, Any]:
    """Take what an earlier release had filled in out of a configuration, which is then as it was given."""
    inputs = {name: taken(tree, path) for path, name in FORMER_INPUTS.items()}
    source_root = taken(tree, FORMER_ROOT)
    data = tree.get("data")
    if not inputs["data"] or not isinstance(data, dict):
        return inputs
    inputs["data_root"] = data.get("root", "")
    if str(inputs["data"]).startswith("shapes-"):
        data["root"] = ""
    elif source_root or data.get("train_annotations") or data.get("val_annotations"):
        data["root"] = source_root
    return inputs


def _add_shards_to_earlier_release(tree: dict[str, Any]) -> None:
    """Say how many shards a trial had whose release knew of none: those that its id stands for."""
    train, run, dynamic = (tree.setdefault(name, {}) for name in ("train", "run", "dynamic"))
    if not all(isinstance(section, dict) for section in (train, run, dynamic)) or "shards" in train:
        return
    workers = run.get("num_workers", 1)
    followed_workers = dynamic.get("convention", "paper") != "paper" or dynamic.get("all_reduce") is False
    if run.pop("distinct_by_workers", False) or followed_workers:
        train["shards"] = workers
        return
    train["shards"] = shards_of_earlier_releases(train.get("global_batch", TrainConfig.global_batch))
    # Workers without a shard of their own trained then; none does now.
    for name in ("num_workers", "min_workers"):
        run[name] = min(run.get(name, getattr(RunConfig, name)), train["shards"])
