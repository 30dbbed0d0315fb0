"""What a module of somebody's own puts in the place of the package's detector, RoI heads or Algorithm 1."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.models.detector import build_model, roi_heads_of
from dynrcnn_ray.models.user_module import ModuleError


class Parts(NamedTuple):
    """What a trial is built of.

    Attributes:
        build_model: takes what `models.detector.build_model` takes, and what it returns trains and detects as that
            does: torchvision's interface, with `roi_heads.dynamic` where Algorithm 1 is to be recorded.
        dynamic_state: the class of Algorithm 1's state.
    """

    build_model: Callable[..., Any]
    dynamic_state: type[DynamicTrainingState]


def parts_of(module: ModuleType | None, model: ModelConfig) -> Parts:
    """The package's parts, or those that a module has in their places.

    Args:
        module: with `build_model`, or `ROI_HEADS`, a subclass of the detector's RoI heads; or with `DYNAMIC_STATE`, a
            subclass of `DynamicTrainingState`, alone or beside either; and OPTIONS, the defaults of its options.
        model: the detector.

    Raises:
        ModuleError: one of them is not of its kind, or the detector has no use for it.
    """
    given = {} if module is None else vars(module)
    what = f"model.module: {module.__file__ if module else ''!r}"
    if module is not None:
        _check_options(given.get("OPTIONS", {}), model, what)
    state = _subclass(given, "DYNAMIC_STATE", DynamicTrainingState, what)
    if "build_model" in given:
        if "ROI_HEADS" in given:
            raise ModuleError(
                f"{what} has both build_model and ROI_HEADS; keep one of them: "
                "dynrcnn_ray.models.detector.build_model takes the class as roi_heads"
            )
        return Parts(given["build_model"], state)
    if model.is_one_stage and given:
        raise ModuleError(f"{what} has rules for proposals, of which model.name = {model.name!r} has none")
    heads = _subclass(given, "ROI_HEADS", roi_heads_of(model), what)
    return Parts(functools.partial(build_model, roi_heads=heads), state)


def _check_options(defaults: Any, model: ModelConfig, what: str) -> None:
    """Refuse an option that the module does not have, or whose text is none of its default's type."""
    if not isinstance(defaults, dict) or any(type(default) not in (int, float, str) for default in defaults.values()):
        raise ModuleError(f"{what}: OPTIONS = {defaults!r} must be defaults by their names, each a number or a text")
    for option in model.options:
        name, _, text = option.partition("=")
        if name not in defaults:
            raise ModuleError(
                f"model.options: {name!r} is no option of {what.partition(': ')[2]}; allowed: "
                f"{', '.join(defaults) or 'none'}"
            )
        try:
            model.option(name, defaults)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}[type(defaults[name])]
            raise ModuleError(f"model.options: {name}={text!r} must be {kind}") from None


def _subclass(given: dict[str, Any], name: str, of_package: type[Any], what: str) -> type[Any]:
    """The module's class of this name, else the package's."""
    found = given.get(name, of_package)
    if not (isinstance(found, type) and issubclass(found, of_package)):
        raise ModuleError(
            f"{what}: {name} = {getattr(found, '__name__', found)!r} is no subclass of "
            f"{of_package.__module__}.{of_package.__qualname__}, with which this detector is built"
        )
    return found
