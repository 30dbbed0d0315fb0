"""A detector of somebody's own trains in the place of the package's."""

import dataclasses
import os
from pathlib import Path

import pytest

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.models import user_module
from dynrcnn_ray.models.tried_module import require_module
from dynrcnn_ray.models.user_module import ModuleError, identify_module
from dynrcnn_ray.training.collectives import Worker
from tests.prepared import prepared
from tests.training.test_trial import change
from tests.trial_events import run_to_end

MODULE = """
from pathlib import Path
from dynrcnn_ray.models.detector import build_model as packaged

def build_model(config, num_classes, dynamic):
    model = packaged(config, num_classes, dynamic)
    model.roi_heads.nms_thresh = 0.123
    Path(__file__).with_suffix(".built").write_text(str(num_classes))
    return model
"""


@pytest.fixture
def trial(smoke: TrialConfig, tmp_path: Path) -> TrialConfig:
    file = tmp_path / "mine.py"
    file.write_text(MODULE)
    return change(smoke, model={"module": str(file)}, train={"steps": 2})


def test_it_is_trained_and_evaluated(trial: TrialConfig, tmp_path: Path):
    assert run_to_end(trial, Worker()).history[-1]["step"] == 2
    assert (tmp_path / "mine.built").read_text() == "6"


def test_another_file_than_the_trial_began_with_is_refused(trial: TrialConfig, tmp_path: Path):
    began = prepared(trial)
    (tmp_path / "mine.py").write_text(MODULE + "\n#\n")
    with pytest.raises(ModuleError, match=r"on this machine, but the trial began with .*; bring the same file"):
        run_to_end(began, Worker())


def test_where_the_file_is_does_not_count_but_its_content_does(trial: TrialConfig, smoke: TrialConfig):
    same = change(smoke, train={"steps": 2})
    one = prepared(trial)
    assert one.trial_id != prepared(same).trial_id
    assert Trial(change(one.config, model={"module": "/elsewhere.py"}), one.inputs).trial_id == one.trial_id
    assert Trial(one.config, dataclasses.replace(one.inputs, module="0")).trial_id != one.trial_id


def with_content(trial: TrialConfig, content: str) -> TrialConfig:
    """The trial whose module says this."""
    Path(trial.model.module).write_text(content)
    return trial


REFUSED = {
    "": "has no function build_model",
    "import nothing_of_this_name": "ends with ModuleNotFoundError: No module named",
    "raise SystemExit(3)": "ends with SystemExit: 3",
}


@pytest.mark.parametrize(("content", "message"), REFUSED.items())
def test_a_module_that_cannot_be_used_is_refused(trial: TrialConfig, content: str, message: str):
    refused = with_content(trial, content)
    for _ in range(2):
        with pytest.raises(ModuleError, match=message):
            run_to_end(refused, Worker())


def test_a_command_tries_it_in_a_process_of_its_own(
    trial: TrialConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("SET_BY_MINE", raising=False)
    says = "import os, sys\nos.environ['SET_BY_MINE'] = '1'\nprint('a warning', file=sys.stderr)\n"
    usable = with_content(trial, says + "def build_model(*given): ...").model
    require_module(usable, identify_module(usable))
    assert "SET_BY_MINE" not in os.environ
    assert capfd.readouterr().err == "a warning\n"
    for content, message in {**REFUSED, "import os\nos._exit(7)": "ends its process with the code 7"}.items():
        with pytest.raises(ModuleError, match=f"^model.module: .*{message}"):
            require_module(with_content(trial, content).model, identify_module(trial.model))


def test_a_process_that_has_run_one_builds_no_other_model(trial: TrialConfig, smoke: TrialConfig, tmp_path: Path):
    """What the file has changed would train them without a word."""
    (tmp_path / "other.py").write_text(MODULE + "# another\n")
    other = change(trial, model={"module": str(tmp_path / "other.py")})
    losses = [[row["loss"] for row in run_to_end(trial, Worker()).history] for _ in range(2)]
    assert losses[0] == losses[1]
    for later in (smoke, other):
        with pytest.raises(ModuleError, match=r"is not built in a process that has run .*mine\.py, which may have"):
            run_to_end(later, Worker())


def test_a_file_runs_once_in_a_process(trial: TrialConfig, tmp_path: Path):
    """Or what wraps a loss would wrap it twice."""
    counts = "from pathlib import Path\nwith Path(__file__).with_suffix('.runs').open('a') as runs: runs.write('x')\n"
    counted = with_content(trial, counts + MODULE)
    for _ in range(2):
        run_to_end(counted, Worker())
    assert (tmp_path / "mine.runs").read_text() == "x"


def test_what_runs_is_the_content_of_the_fingerprint(trial: TrialConfig, tmp_path: Path):
    """A file of the same size and time as one that was run before: Python's own cache would run the old one."""
    times = (tmp_path / "mine.py").stat()
    run_to_end(trial, Worker())
    user_module._has_run.clear()
    changed = MODULE.replace("str(num_classes)", "'the new number'")
    assert len(changed) == len(MODULE)
    (tmp_path / "mine.py").write_text(changed)
    os.utime(tmp_path / "mine.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    run_to_end(trial, Worker())
    assert (tmp_path / "mine.built").read_text() == "the new number"


def test_a_file_without_its_fingerprint_is_not_run(trial: TrialConfig, tmp_path: Path):
    """A row of a store names a file; only the fingerprint tells whether it is that file."""
    known = prepared(trial)
    unknown = Trial(known.config, dataclasses.replace(known.inputs, module=""))
    with pytest.raises(ModuleError, match="stands without a fingerprint"):
        run_to_end(unknown, Worker())
    assert not (tmp_path / "mine.built").exists()
