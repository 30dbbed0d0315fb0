"""Rules of somebody's own take the place of the package's, by the names that a module gives."""

from pathlib import Path
from types import ModuleType

import pytest

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError, from_yaml, to_yaml, validate, with_values
from dynrcnn_ray.models.own_parts import parts_of
from dynrcnn_ray.models.tried_module import require_module
from dynrcnn_ray.models.user_module import ModuleError, identify_module
from dynrcnn_ray.training.collectives import Worker
from dynrcnn_ray.training.state import TrainingState
from tests.training.test_shards import checksum
from tests.trial_events import run_to_end

OVERRIDES = """
from pathlib import Path
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.{room} import {heads}

def told(name):
    def method(self, *given):
        with Path(__file__).with_suffix(".told").open("a") as file:
            file.write(name + "\\n")
        return getattr(super(type(self), self), name)(*given)
    return method

of_heads, of_state = ("assign", "sample", "box_losses", "mask_loss"), ("measure", "next_iou", "next_beta")
ROI_HEADS = type("Mine", ({heads},), {{name: told(name) for name in of_heads}})
DYNAMIC_STATE = type("Own", (DynamicTrainingState,), {{name: told(name) for name in of_state}})
"""
FIXED = {"dynamic.dla": False, "dynamic.dsl": False}
MODELS = {
    "mask_rcnn": ("roi_heads", "DynamicRoIHeads", {}),
    "cascade_mask_rcnn": ("cascade", "CascadeRoIHeads", FIXED),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_rule_is_asked_and_the_package_s_own_answers_leave_the_bits(
    name: str, smoke: TrialConfig, tmp_path: Path
):
    room, heads, others = MODELS[name]
    short = {"model.name": name, "train.steps": 2, "dynamic.update_interval": 1, "run.log_every": 1} | others
    plain = with_values(smoke, short)
    weights: list[str] = []

    def keep(state: TrainingState, is_best: bool) -> None:
        trained = state.state_dict()
        weights.append(checksum([trained[part] for part in ("model", "optimizer", "dynamic", "history", "snapshots")]))

    def train(config: TrialConfig) -> None:
        run_to_end(config, Worker(), on_checkpoint=keep)

    train(plain)
    file = tmp_path / "mine.py"
    file.write_text(OVERRIDES.format(room=room, heads=heads))
    trial = with_values(plain, {"model.module": str(file)})
    train(trial)
    told = set((tmp_path / "mine.told").read_text().split())
    assert told == {"assign", "sample", "box_losses", "mask_loss", "measure", "next_iou", "next_beta"}
    assert weights[0] == weights[1]


def module(**given: object) -> ModuleType:
    made = ModuleType("mine")
    made.__file__ = "mine.py"
    vars(made).update(given)
    return made


REFUSED: dict[str, tuple[dict[str, object], str, str]] = {
    "no class": ({"ROI_HEADS": 3}, "faster_rcnn", r"ROI_HEADS = 3 is no subclass of .*roi_heads\.DynamicRoIHeads"),
    "another class": ({"DYNAMIC_STATE": dict}, "faster_rcnn", r"'dict' is no subclass of .*DynamicTrainingState"),
    "no cascade": ({"ROI_HEADS": dict}, "cascade_rcnn", r"'dict' is no subclass of .*cascade\.CascadeRoIHeads"),
    "no proposals": ({"DYNAMIC_STATE": dict}, "retinanet", "is no subclass"),
    "both": ({"ROI_HEADS": dict, "build_model": print}, "faster_rcnn", "has both build_model and ROI_HEADS; keep one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_takes_no_part_s_place_is_refused(case: str):
    given, name, message = REFUSED[case]
    with pytest.raises(ModuleError, match=f"^model.module: 'mine.py'.*{message}") as refused:
        parts_of(module(**given), ModelConfig(name=name))  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(refused.value)


OPTIONS = {"nearest": 9, "weight": 1.0, "kind": "mean"}
REFUSED_OPTIONS = {
    "near=3": r"^model.options: 'near' is no option of 'mine.py'; allowed: nearest, weight, kind$",
    "nearest=3.5": r"^model.options: nearest='3.5' must be a whole number$",
    "weight=much": r"^model.options: weight='much' must be a number$",
}


@pytest.mark.parametrize(("option", "message"), REFUSED_OPTIONS.items())
def test_an_option_that_a_module_does_not_have_is_refused(option: str, message: str):
    with pytest.raises(ModuleError, match=message):
        parts_of(module(OPTIONS=OPTIONS, build_model=print), ModelConfig(options=(option,)))


def test_options_count_in_the_id_of_a_trial_with_a_module(smoke: TrialConfig):
    def trial_id(**values: object) -> str:
        return Trial(with_values(smoke, {f"model.{name}": value for name, value in values.items()})).trial_id

    assert trial_id(options=["a=1"]) == trial_id()
    assert trial_id(module="m.py", options=["a=1"]) not in (trial_id(module="m.py"), trial_id())
    config = with_values(smoke, {"model.module": "m.py", "model.options": ["a=1", "b=x=y"]})
    assert from_yaml(to_yaml(config)) == config
    assert config.model.option("b", {"b": ""}) == "x=y"
    for wrong, message in (["a"], "'a' must be NAME=VALUE"), (["a=1", "a=2"], "'a' stands twice; give it once"):
        with pytest.raises(ConfigError, match=f"^model.options: {message}"):
            validate(with_values(smoke, {"model.options": wrong}))


def test_a_detector_without_proposals_has_no_use_for_rules_of_them(tmp_path: Path):
    """A command says so before it trains."""
    file = tmp_path / "mine.py"
    file.write_text("from dynrcnn_ray.dynamic.state import DynamicTrainingState as DYNAMIC_STATE\n")
    for name, refused in (("faster_rcnn", False), ("retinanet", True)):
        model = ModelConfig(name=name, module=str(file))  # pyright: ignore[reportArgumentType]
        if not refused:
            require_module(model, identify_module(model))
            continue
        with pytest.raises(ModuleError, match=r"mine\.py' has rules for proposals, of which .* 'retinanet' has none"):
            require_module(model, identify_module(model))
