"""What is measured against another library, by a stand-in: neither Detectron2 nor MMDetection is a dependency."""

import dataclasses
import sys
import types
from pathlib import Path

import pytest
import torch

from benchmarks import peers
from benchmarks.command import COMMAND, PEERS
from benchmarks.peers import BUILDERS, Peer, measure_against
from benchmarks.reference_loop import stock_detector
from benchmarks.schema import BENCHMARKS
from benchmarks.workbench import Workbench, with_batch, with_shards
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from tests.cli.calls import call


def torchvision_peer(config: TrialConfig, num_classes: int) -> Peer:
    model = stock_detector(config, num_classes).train()
    return Peer(
        model,
        losses=lambda batch: list(model(list(batch[0]), list(batch[1])).values()),
        detect=lambda images: model(images),
        release="torchvision 0",
        unequal="nothing",
    )


@pytest.mark.slow
def test_a_peer_trains_and_detects_beside_ours(smoke: TrialConfig, tmp_path: Path):
    threads = torch.get_num_threads()
    few = dataclasses.replace(smoke.model, rois_per_image=32, rpn_post_nms=50, detections_per_image=10)
    small = with_batch(with_shards(dataclasses.replace(smoke, model=few), 1, 2), 2)
    rows = list(measure_against("torchvision", torchvision_peer)(Workbench(small, small, tmp_path), 1))
    torch.set_num_threads(threads)
    names = [row["name"] for row in rows]
    assert names == [f"against_torchvision.{what}" for what in ("training_1", "training_2", "inference")]
    for row in rows:
        assert set(row) <= set(BENCHMARKS.names)
        assert row["ratio"] > 0
        assert row["note"].startswith("torchvision 0; ")
        assert row["note"].endswith("not equal: nothing")


def test_the_command_knows_every_peer():
    assert set(PEERS) == set(peers.PEERS) == set(BUILDERS)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_not_installed_is_reported_at_once(peer: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, peers.PEERS[peer], None)
    with pytest.raises(ConfigError, match=f"--against: {peer} cannot be imported"):
        call(COMMAND, "--against", peer, "--dry-run")


def test_against_alone_measures_nothing_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "detectron2", types.ModuleType("detectron2"))
    assert call(COMMAND, "--against", "detectron2", "--dry-run") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["against_detectron2"]
    with pytest.raises(ConfigError, match="on the CPU alone"):
        call(COMMAND, "--against", "detectron2", "--device", "cuda")
