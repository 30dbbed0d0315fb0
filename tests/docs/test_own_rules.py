"""The examples of rules of one's own: what they compute, and that a trial has all with them that it has without."""

import ast
import dataclasses
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.profiler import profile
from torchvision.ops import box_iou

from dynrcnn_ray.config.scales import base_config
from dynrcnn_ray.config.sections import ModelConfig
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import with_values
from dynrcnn_ray.dynamic.boxes import Match
from dynrcnn_ray.dynamic.proposals import AssignedProposals
from dynrcnn_ray.dynamic.state import DynamicTrainingState
from dynrcnn_ray.dynamic.statistics import ProposalStatistics
from dynrcnn_ray.execution.claims import checked_claims
from dynrcnn_ray.experiment.sweep import read_sweep
from dynrcnn_ray.models.detector import build_model
from dynrcnn_ray.models.own_parts import Parts, parts_of
from dynrcnn_ray.models.torchvision_private import BoxCoder
from dynrcnn_ray.models.user_module import load_module
from dynrcnn_ray.training.collectives import Worker
from tests.models.test_detector import HOST_SYNCS
from tests.processes import run_workers
from tests.training.test_shards import checksum, facts, of_kind, train_a_part
from tests.trial_events import run_to_end

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.py"))
SUCCESSORS = EXAMPLES.parents[1] / "experiments" / "successors"
FILES = {name: EXAMPLES / f"{name}.py" for name in NAMES} | {"wise_iou": SUCCESSORS / "wise_iou.py"}
FIXED = {"dynamic.dla": False, "dynamic.dsl": False}
MEASURED_HERE = {"dynamic.initial_iou": 0.2, "dynamic.iou_top_k": 10}
"""So that T_now moves in the few steps of a test."""


def example(name: str) -> ModuleType:
    return load_module(str(FILES[name]), "model.module")


def parts(name: str) -> Parts:
    return parts_of(example(name), ModelConfig())


def test_there_are_three_each_with_a_grid_of_its_own():
    assert NAMES == ["atss_labels", "giou_loss", "median_iou"]
    assert [file.stem for file in sorted(EXAMPLES.glob("*.yaml"))] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_less_than_25_lines_of_code(name: str):
    text = (EXAMPLES / f"{name}.py").read_text()
    tree = ast.parse(text)
    said = tree.body[0]
    assert isinstance(said, ast.Expr), "a docstring"
    lines = text.splitlines()[said.end_lineno :]
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) < 25
    private = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    assert not private


@pytest.mark.parametrize("name", NAMES)
def test_its_grid_compares_it_with_the_baseline_and_claims_something(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(EXAMPLES.parents[1])
    sweep = read_sweep((EXAMPLES / f"{name}.yaml").read_text(), name)
    config = sweep.based_on(base_config("mini"))
    experiment = sweep.experiment(())
    rows = experiment.rows(config)
    assert rows[0].labels["Setting"] == "baseline"
    of_module = [row.config for row in rows if row.config and row.config.model.module]
    assert {Path(row.model.module).resolve() for row in of_module} == {EXAMPLES / f"{name}.py"}
    for row in of_module:
        parts_of(example(name), row.model)
    assert len(checked_claims(experiment, config)) == 2


# What each computes.


def test_median_iou_is_the_median_of_what_was_measured(smoke: TrialConfig):
    config = with_values(smoke, {"dynamic.update_interval": 3, "dynamic.initial_iou": 0.2})
    ours, packaged = (kind(config) for kind in (parts("median_iou").dynamic_state, DynamicTrainingState))
    generator = np.random.default_rng(0)
    measured: list[float] = []
    for _ in range(3):
        for shard in ours.own_shards:
            ious = torch.tensor(generator.uniform(0.3, 0.9, config.train.global_batch // config.train.shards)).float()
            valid = torch.tensor(generator.uniform(size=len(ious)) > 0.3)
            measured += ious[valid].tolist()
            for state in (ours, packaged):
                state.shard = shard
                state.record(ProposalStatistics(ious, ious, valid))
        for state in (ours, packaged):
            state.end_step()
    assert float(ours.iou_now) == pytest.approx(np.median(measured), rel=1e-6)
    assert float(packaged.iou_now) == pytest.approx(np.mean(measured), rel=1e-6)
    assert ours.beta_now == packaged.beta_now


def heads_of(name: str, smoke: TrialConfig):
    config = with_values(smoke, FIXED)
    return parts(name).build_model(config, 3, DynamicTrainingState(config)).roi_heads


def test_atss_labels_are_those_of_a_threshold_for_each_ground_truth(smoke: TrialConfig):
    heads = heads_of("atss_labels", smoke)
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([[10.0, 10, 50, 40], [60, 20, 90, 90]])
    moved = truth.repeat_interleave(30, 0) + 8 * torch.randn(60, 4, generator=generator)
    proposals = torch.cat([moved, truth])
    match, labels = heads.assign(proposals, truth, torch.tensor([1, 3]), torch.tensor(0.5))

    ious = box_iou(truth, moved).numpy()
    centres = [((boxes[:, :2] + boxes[:, 2:]) / 2).numpy() for boxes in (truth, moved)]
    thresholds = []
    for centre, row in zip(centres[0], ious, strict=True):
        nearest = np.argsort(((centres[1] - centre) ** 2).sum(axis=1))[:9]
        thresholds.append(row[nearest].mean() + row[nearest].std())
    expected = [
        label if iou >= thresholds[index] else 0
        for index, iou, label in zip(
            match.gt_index.tolist(), match.max_iou.tolist(), torch.tensor([1, 3])[match.gt_index].tolist(), strict=True
        )
    ]
    assert labels.tolist() == expected
    assert 2 < (labels > 0).sum() < 60, "more than the ground truths, and not all"


def test_giou_loss_is_that_of_the_refined_boxes_of_positives(smoke: TrialConfig):
    heads = heads_of("giou_loss", smoke)
    truth = torch.tensor([[10.0, 10, 50, 50]])
    proposals = torch.tensor([[10.0, 10, 50, 50], [30, 10, 70, 50], [100, 100, 120, 120]])
    match, _ = heads.assign(proposals, truth, torch.tensor([1]), torch.tensor(0.2))
    image = AssignedProposals(proposals, truth, match, torch.arange(3), torch.tensor([1, 1, 0]))
    offsets = torch.zeros(3, 4, requires_grad=True)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    losses = heads.box_losses([image], torch.zeros(3, 4), offsets, coder, torch.tensor(1.0))
    # Of [10, 10, 50, 50] with itself, and with itself moved by half its width: no area of the hull is left over.
    assert float(losses["loss_box_reg"].detach()) == pytest.approx(10 * (0 + 1 - 1 / 3) / 3, rel=1e-5)
    assert float(losses["loss_classifier"]) == pytest.approx(np.log(4), rel=1e-5)
    losses["loss_box_reg"].backward()
    assert offsets.grad is not None
    assert offsets.grad[1].abs().sum() > 0
    assert offsets.grad[2].abs().sum() == 0


def test_wise_iou_is_its_authors_formula_and_follows_the_mean_of_all(smoke: TrialConfig):
    """By hand: two positives of two images, one half a width off, and a negative that is as far off as can be."""
    config = with_values(smoke, {"dynamic.update_interval": 1, "train.shards": 1, "train.global_batch": 2})
    state = parts("wise_iou").dynamic_state(config)
    heads = parts("wise_iou").build_model(config, 3, state).roi_heads
    truth = torch.tensor([[10.0, 10, 50, 50]])
    images = []
    for proposals, labels in (([[20.0, 10, 60, 50], [100, 100, 120, 120]], [1, 0]), ([[10.0, 10, 50, 50]], [1])):
        boxes = torch.tensor(proposals)
        match, _ = heads.assign(boxes, truth, torch.tensor([1]), torch.tensor(0.5))
        images.append(AssignedProposals(boxes, truth, match, torch.arange(len(boxes)), torch.tensor(labels)))
    offsets = torch.zeros(3, 4, requires_grad=True)
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    mean = torch.tensor(0.5)
    loss = heads.box_losses(images, torch.zeros(3, 4), offsets, coder, mean)["loss_box_reg"]

    iou_loss = 1 - 30 / 50
    outlier_degree = iou_loss / 0.5
    focus = outlier_degree / (3 * 1.9 ** (outlier_degree - 3))
    attention = np.exp(10**2 / (50**2 + 40**2))
    assert float(loss.detach()) == pytest.approx(10 * focus * attention * iou_loss / 3, rel=1e-5)
    loss.backward()
    assert offsets.grad is not None
    assert offsets.grad.isfinite().all()
    assert offsets.grad[0].abs().sum() > 0
    assert offsets.grad[1].abs().sum() == 0
    state.end_step()
    weight = 1 - 0.05 ** (1 / 170)
    assert float(state.beta_now) == pytest.approx(1 + weight * ((iou_loss + 0) / 2 - 1), rel=1e-6)


def test_labels_and_t_now_of_the_examples_let_no_gpu_s_host_wait(smoke: TrialConfig):
    heads, state = heads_of("atss_labels", smoke), parts("median_iou").dynamic_state(smoke)
    truth = torch.tensor([[10.0, 10, 50, 40], [60, 20, 90, 90]])
    proposals, labels, ious = torch.cat([truth + shift for shift in range(9)]), torch.tensor([1, 3]), torch.rand(8)
    with profile() as recorded:
        heads.assign(proposals, truth, labels, torch.tensor(0.5))
        state.next_iou(ious, ious > 0.2, state.iou_now)
    names = {event.name for event in (recorded.events() or ())}
    assert "aten::topk" in names, "the profiler sees them"
    assert not names & HOST_SYNCS


def test_an_option_takes_the_place_of_its_default(smoke: TrialConfig):
    config = with_values(smoke, FIXED | {"model.options": ["weight=3"]})
    built = parts_of(example("giou_loss"), config.model).build_model(config, 3, DynamicTrainingState(config))
    boxes = torch.tensor([[10.0, 10, 50, 50]])
    image = AssignedProposals(boxes, boxes, Match(torch.ones(1), torch.tensor([0])), torch.arange(1), torch.tensor([1]))
    given = [image], torch.zeros(1, 4), torch.ones(1, 4), BoxCoder((10.0, 10.0, 5.0, 5.0)), torch.tensor(1.0)
    with_default = heads_of("giou_loss", smoke).box_losses(*given)["loss_box_reg"]
    assert float(built.roi_heads.box_losses(*given)["loss_box_reg"]) == pytest.approx(0.3 * float(with_default))


# Trials.


FOUR = {"train.shards": 4, "train.global_batch": 4, "train.reference_batch": 4}
"""An image a shard; on three workers one has two of them."""


def with_example(smoke: TrialConfig, name: str) -> TrialConfig:
    others = {} if name in ("median_iou", "wise_iou") else FIXED
    own = {"model.module": str(FILES[name])} | MEASURED_HERE | others
    return with_values(of_kind(smoke, "paper"), FOUR | own)


def train_from(worker: Worker, config: TrialConfig, folder: Path) -> None:
    state = torch.load(folder / "state.pt", weights_only=True)
    outcome = run_to_end(config, worker, checkpoint=state)
    if worker.is_first:
        (folder / "facts").write_text(facts(outcome))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_trial_with_it_has_the_same_bits_on_any_workers_and_after_a_checkpoint(
    name: str, smoke: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two workers train to a checkpoint in the middle of an interval, three go on from it; one trains it in one go."""
    config = with_values(with_example(smoke, name), {"run.checkpoint_every": 1})
    states: dict[int, str] = {}
    outcome = run_to_end(
        config, Worker(), on_checkpoint=lambda state, _: states.update({state.step: checksum(state.state_dict())})
    )
    run_workers(train_a_part, 2, tmp_path, config, 3, tmp_path)
    assert checksum(torch.load(tmp_path / "state.pt", weights_only=True)) == states[3]
    (tmp_path / "rendezvous").unlink(missing_ok=True)
    run_workers(train_from, 3, tmp_path, config, tmp_path)
    assert (tmp_path / "facts").read_text() == facts(outcome)

    assert all(row["loss"] > 0 for row in outcome.history)
    monkeypatch.setattr("dynrcnn_ray.models.user_module._has_run", {})
    without = dataclasses.replace(config, model=dataclasses.replace(config.model, module=""))
    assert facts(run_to_end(without, Worker())) != facts(outcome), "it makes a difference"


def test_the_package_s_own_model_takes_its_heads(smoke: TrialConfig):
    heads = example("giou_loss").ROI_HEADS
    model = build_model(smoke, 3, DynamicTrainingState(smoke), roi_heads=heads)
    assert isinstance(model.roi_heads, heads)
