"""What `--output` names is asked before the work, in every command that writes for its user."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dynrcnn_ray.config.stored import to_stored
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.options.output import output_folder, write_whole, writing
from dynrcnn_ray.store.results_store import ResultStore
from dynrcnn_ray.tools.evaluate import command as evaluate
from dynrcnn_ray.tools.export import command as export
from dynrcnn_ray.tools.pretrain import command as pretrain
from dynrcnn_ray.tools.pretrain import pretrain as pretraining
from tests.cli.calls import call
from tests.prepared import prepared


def a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("mine")
    return tmp_path / "file"


def below_a_file(tmp_path: Path) -> Path:
    return a_file(tmp_path) / "deep" / "er"


def a_link_to_nothing(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    return tmp_path / "link"


def too_long(tmp_path: Path) -> Path:
    return tmp_path / ("n" * 300)


def where_no_file_can_be(tmp_path: Path) -> Path:
    """Also root cannot write there."""
    return Path("/proc/dynrcnn_ray")


def of_nobody(tmp_path: Path) -> Path:
    return Path("~nobody_of_this_name/x")


REFUSED = pytest.mark.parametrize(
    "make", [a_file, below_a_file, a_link_to_nothing, too_long, where_no_file_can_be, of_nobody]
)


@REFUSED
def test_what_cannot_be_written_is_refused_in_a_line(make: Callable[[Path], Path], tmp_path: Path):
    folder = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"^--output: ") as refused:
        output_folder(folder)
    assert str(folder)[:50] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_can_be_made_is_not_made_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert output_folder(Path("new/er"), ["x"]) == tmp_path / "new" / "er"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x").mkdir()
    with pytest.raises(ConfigError, match=r"/x is a folder, and a file of this name is to be written"):
        output_folder(Path(), ["x"])


@REFUSED
@pytest.mark.parametrize("command", ["evaluate", "export", "pretrain"])
def test_every_command_asks_before_it_works(
    command: str,
    make: Callable[[Path], Path],
    smoke: TrialConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The store has no checkpoint: it is not even looked for."""
    store = ResultStore.open(tmp_path / "store")
    row: dict[str, Any] = {"trial_id": prepared(smoke).trial_id, "experiment": "train", "setting": "trial", "seed": 0}
    row |= {"scale": "smoke", "num_workers": 1, "status": "finished", "AP": 0.0, "config": to_stored(prepared(smoke))}
    row["finished_at"] = datetime.now(UTC)
    store.write_trial(row)
    arguments = [prepared(smoke).trial_id, "--storage", str(tmp_path / "store")]
    if command == "pretrain":
        monkeypatch.setattr(pretraining, "_processes", lambda: pytest.fail("it began"))
        arguments = ["--scale", "smoke"]
    module = {"evaluate": evaluate, "export": export, "pretrain": pretrain}[command]
    with pytest.raises(ConfigError, match=r"^--output: "):
        call(module.COMMAND, *arguments, "--output", str(make(tmp_path)))


@pytest.mark.slow
def test_an_export_goes_into_the_file_that_is_named(trained: tuple[Path, TrialConfig], tmp_path: Path, capsys):
    folder, config = trained
    options = (prepared(config).trial_id, "--storage", str(folder), "--format", "onnx")
    assert call(export.COMMAND, *options, "--output", str(tmp_path / "deep" / "mine.onnx")) == 0
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["mine.onnx"]
    assert str(tmp_path / "deep" / "mine.onnx") in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"x\.pth' is for --format torchvision, and --format is onnx"):
        call(export.COMMAND, *options, "--output", "x.pth")


def test_a_disk_that_is_full_at_the_end_costs_no_results(tmp_path: Path):
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(ConfigError, match=r"x cannot be written \(Is a directory\); the results are in the store"),
        writing(tmp_path / "x", besides="the results are in the store"),
    ):
        write_whole(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == ["x"]
