"""The command line without Ray: what there is, plans, and mistakes refused in one line."""

import json
import sys
from pathlib import Path
from typing import get_args

import pytest

from dynrcnn_ray.__main__ import main as dynrcnn
from dynrcnn_ray.cli.program import program
from dynrcnn_ray.options.command import Group
from experiments.main import main

GRID = "dynrcnn_ray.execution.trials"


@pytest.fixture(autouse=True)
def _forget_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests may have imported what starts Ray; here it counts whether a command did."""
    monkeypatch.delitem(sys.modules, GRID, raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_without_arguments_it_says_what_there_is(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    for command in ("list", "table3", "train", "report"):
        assert f"  {command} " in out
    assert [line.removesuffix(":") for line in out.splitlines() if line.endswith(":")] == list(get_args(Group))


@pytest.mark.slow
def test_every_command_has_a_help_of_its_own(capsys):
    for command in program().commands:
        code, out, _ = run(capsys, command.name, "--help")
        assert code == 0
        assert out.startswith(f"usage: dynrcnn {command.name} ")
        assert " ".join(command.description.split())[:40] in " ".join(out.split())
        assert "[STR]" not in out.split(" options ")[0], "an argument without a flag has a name"
        examples = [line for line in command.description.splitlines() if line.startswith("  dynrcnn ")]
        assert set(examples) <= set(out.splitlines()), "an example is a line of its own"


def test_the_flags_of_a_scale_stand_in_its_help(capsys):
    for scale, steps in (("smoke", "10"), ("coco", "90000")):
        out = " ".join(run(capsys, "train", "--scale", scale, "--help")[1].replace("│", " ").split())
        assert f"Another global batch scales them inversely. (default: {steps})" in out
        assert f"(default: {scale})" in out


def test_the_installed_command_is_the_same_program(capsys):
    assert dynrcnn(["--help"]) == 0
    installed = capsys.readouterr().out
    assert installed == run(capsys, "--help")[1]
    for command in program().commands:
        assert f"  {command.name} " in installed


@pytest.mark.slow
def test_the_shell_completes_commands_and_flags(capsys):
    for shell in ("bash", "zsh", "fish"):
        assert dynrcnn(["--tyro-print-completion", shell]) == 0
        out = capsys.readouterr().out
        assert "check-data" in out
        assert "--dynamic.iou-top-k" in out


def test_a_shell_that_cannot_be_completed_is_refused_in_a_line(capsys):
    assert dynrcnn(["--tyro-print-completion", "tcsh"]) == 2
    assert "not for this shell; allowed: bash, zsh, fish" in capsys.readouterr().err


def test_list_shows_anchor_rows_and_trials(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("table3")]
    assert "Table 3, Section 5.4" in line
    assert line.split()[-6:-4] == ["4", "4"]


def test_dry_run_shows_the_trials_and_starts_nothing(capsys, tmp_path):
    storage = ("--storage", str(tmp_path))
    code, out, _ = run(capsys, "table3", "--scale", "smoke", "--seeds", "0", "1", "2", "--dry-run", *storage)
    assert code == 0
    assert "4 rows, 12 distinct trials" in out
    ids = [line.split()[0] for line in out.splitlines()[1:]]
    assert len(set(ids)) == 12
    assert GRID not in sys.modules


def test_the_global_batch_changes_a_trial_and_the_workers_do_not(capsys, tmp_path):
    def ids(*extra: str) -> list[str]:
        _, out, _ = run(capsys, "table3", "--scale", "smoke", "--dry-run", "--storage", str(tmp_path), *extra)
        return [line.split()[0] for line in out.splitlines() if line.startswith("  ")]

    assert ids("--num-workers", "2") == ids("--run.cpus-per-worker", "4") == ids()
    assert not set(ids("--train.global-batch", "2")) & set(ids())
    assert not set(ids("--dynamic.iou-top-k", "64")) & set(ids())


def test_a_coco_plan_needs_no_data(capsys, tmp_path):
    code, out, _ = run(capsys, "table3", "--scale", "coco", "--data.root", str(tmp_path), "--dry-run")
    assert code == 2, "the run itself would be refused"
    assert "90000 steps of 16 images on 8 workers" in out
    assert "instances_train2017.json: cannot be read" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["tabel3"],
            "unknown command 'tabel3'; did you mean table3?; allowed: table1, table2, ",
        ),
        (["table3", "--train.stepz", "3"], "unknown option: --train.stepz, 3; did you mean --train.steps?"),
        (["table3", "--confgi", "x"], "unknown option: --confgi, x; did you mean --config?"),
        (["train", "--form", "x"], "unknown option: --form, x; did you mean --from?"),
        (["table3", "--train.steps", "many"], "--train.steps: 'many' is not allowed (allowed: --train.steps INT)"),
        (["table3", "--train.steps", "0"], "train.steps: 0 must be greater than or equal to 1"),
        (["table3", "--train.learning-rate", "nan"], "train.learning_rate: nan must be"),
        (["table3", "--dynamic.initial-iou", "1.5"], "dynamic.initial_iou: 1.5 must be less than 1"),
        (
            ["table3", "--dynamic.convention", "theirs"],
            "--dynamic.convention: 'theirs' is not allowed; allowed: paper, mmd",
        ),
        (["table3", "--dynamic.no-dla"], "dynamic.dla: False has no effect, table3 sets this field itself"),
        (["table3", "--scale", "huge"], "--scale: 'huge' is not allowed; allowed: smoke, mini, photos, coco"),
        (["table3", "--seeds", "0", "0"], "--seeds: (0, 0) must be one or more different numbers"),
        (["table3", "--seeds"], "--seeds: () must be one or more"),
        (["table3", "--num-workers", "3"], "run.num_workers: 3 is above train.shards = 2"),
        (["table3", "--train.shards", "3"], "train.shards: 3 does not divide train.global_batch = 8"),
        (["table3", "--train.milestones", "0.9", "0.5"], "train.milestones: (0.9, 0.5) must rise"),
        (["table3", "--data.short-side", "400", "--data.long-side", "300"], "data.long_side: 300 is below"),
        (["train", "--seed", "-1"], "--seed: -1 must be 0 or greater"),
        (["table3", "--data.root", "/nowhere"], "/nowhere/annotations/instances_train.json: cannot be read"),
        (["list", "now"], "unknown option: now"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path: Path, arguments: list[str], message: str):
    storage = ["--storage", str(tmp_path)] if arguments[0] in ("table3", "train") else []
    code, out, err = run(capsys, *arguments, *storage)
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    # A line for each file that cannot be read.
    assert err.count("\n") == (2 if "/nowhere" in arguments else 1)
    assert out == ""
    assert GRID not in sys.modules
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "today"),
    [
        (["evaluate", "--trial", "abc", "--split", "val"], "dynrcnn evaluate abc --split val"),
        (["evaluate", "--split=val", "--trial=abc"], "dynrcnn evaluate abc --split=val"),
        (["predict", "--images", "a b", "--trial", "abc"], "dynrcnn predict abc --images 'a b'"),
        (["export", "--format", "onnx", "--trial"], "dynrcnn export TRIAL --format onnx"),
        (["show", "--trial", "abc"], "dynrcnn show abc"),
        (["inspect", "abc", "--data-root", "/d"], "dynrcnn inspect abc --data.root /d"),
        (["compare", "a", "b", "--data_root", "/d"], "dynrcnn compare a b --data.root /d"),
        (
            ["evaluate", "--trial", "abc", "--storage", "s3://key:word@bucket/a"],
            "dynrcnn evaluate abc --storage s3://bucket/a",
        ),
        (["benchmark", "--data-root", "/d"], "dynrcnn benchmark --data.root /d"),
        (["convert-data", "yolo", "coco"], "dynrcnn convert-data yolo --output coco"),
    ],
)
def test_a_command_of_before_is_told_as_it_is_written_now(capsys, arguments: list[str], today: str):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err == f"error: {arguments[0]}: is written otherwise now: {today}\n"


@pytest.mark.parametrize("command", ["show", "inspect", "evaluate", "export", "predict", "compare"])
def test_a_command_without_its_trial_says_how_one_is_named(capsys, command: str):
    code, _, err = run(capsys, command)
    assert code == 2
    assert (
        "missing; give a trial's id (the column trial_id of `trials`) or the beginning of it, `last`, or best:" in err
    )


def test_what_a_file_of_weights_does_not_go_with(capsys, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"")
    weights = ("--weights", str(tmp_path / "a.pth"))
    for arguments, told in (
        (("predict", "abc", *weights), "--weights: stands in place of a trial, and 'abc' is given too; leave one out"),
        (("predict", *weights, "--checkpoint", "best"), "--checkpoint: best is a trial's; a file of weights holds one"),
        (("export", "--weights", "gone.pth"), "--weights: 'gone.pth' is no file; give what `export --format torch"),
        (("export", *weights), "--weights: is what --format torchvision writes; choose --format onnx"),
        (("predict", *weights), "--images: missing"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert told in err


def test_report_on_an_empty_store_says_so(capsys, tmp_path):
    code, out, _ = run(capsys, "report", "--storage", str(tmp_path))
    assert code == 0
    assert "holds no results yet" in out


@pytest.mark.parametrize("command", [["report"], ["findings"]], ids=str)
def test_a_store_that_is_not_there(capsys, tmp_path, command: list[str]):
    code, out, err = run(capsys, *command, "--storage", str(tmp_path / "nowhere"))
    assert (code, out) == (2, "")
    assert f"storage {tmp_path}/nowhere: is not there; name the storage of a run" in err
    assert not list(tmp_path.iterdir())


def test_report_refuses_a_broken_store(capsys, tmp_path):
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "table3.parquet").write_bytes(b"not parquet")
    code, _, err = run(capsys, "report", "--storage", str(tmp_path))
    assert code == 2
    assert "table3.parquet" in err
    assert err.count("\n") == 1


def test_annotations_without_categories_are_refused_before_anything_starts(capsys, tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        content = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "categories": []}
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content | {"annotations": []}))
    code, _, err = run(capsys, "table3", "--data.root", str(tmp_path), "--storage", str(tmp_path / "store"))
    assert code == 2
    assert "instances_train.json" in err
    assert "categor" in err
    assert GRID not in sys.modules


def test_weights_that_cannot_be_had_say_which_file_to_place_where(capsys, tmp_path, monkeypatch, cache_home):
    """A port of this machine where nobody listens stands for a machine without network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    arguments = ["train", "--scale", "smoke", "--model.backbone", "resnet18", "--model.weights", "imagenet"]
    code, _, err = run(capsys, *arguments, "--model.norm", "frozen_batch_norm", "--storage", str(tmp_path / "store"))
    assert code == 2
    assert "place torchvision's file resnet18-f37072fd.pth in" in err
    assert f"{tmp_path}/torch/hub/checkpoints" in err
    assert err.count("\n") == 1
    assert GRID not in sys.modules


def test_a_damaged_download_is_named(capsys, tmp_path, monkeypatch, cache_home):
    """PyTorch takes a file of its cache by its name, which says how the content's SHA-256 begins."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_home))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\x03\x04")
    arguments = ["train", "--scale", "smoke", "--model.backbone", "resnet18", "--model.weights", "imagenet"]
    code, _, err = run(capsys, *arguments, "--model.norm", "frozen_batch_norm", "--storage", str(tmp_path / "store"))
    assert code == 2
    assert f"model.weights: 'imagenet': {file} is damaged or another file" in err
    assert "move it away" in err
    assert err.count("\n") == 1
    assert GRID not in sys.modules


def test_the_seed_of_a_file_is_the_seed_of_its_trials(capsys, tmp_path):
    file, grid = tmp_path / "trial.yaml", tmp_path / "mine.yaml"
    file.write_text("scale: smoke\nseed: 7\n")
    storage = ("--storage", str(tmp_path / "store"), "--dry-run")
    given = ("--config", str(file), *storage)
    assert "seed 7 " in run(capsys, "table3", *given)[1]
    assert "seed 3 " in run(capsys, "table3", *given, "--seeds", "3")[1]
    grid.write_text("axes: {dynamic.iou_top_k: [64]}\n")
    assert "seed 7 " in run(capsys, "grid", str(grid), *given)[1]
    grid.write_text("axes: {dynamic.iou_top_k: [64]}\nbase: {seed: 5}\n")
    assert "seed 5 " in run(capsys, "grid", str(grid), "--scale", "smoke", *storage)[1]
    grid.write_text("axes: {dynamic.iou_top_k: [64]}\nseeds: [1]\n")
    assert "seed 1 " in run(capsys, "grid", str(grid), *given)[1]


def test_a_file_that_leaves_out_what_makes_its_scale_is_told(capsys, tmp_path):
    """What it leaves out is the paper's, whatever its scale: ninety thousand steps at scale mini."""
    file, storage = tmp_path / "trial.yaml", ("--storage", str(tmp_path / "store"), "--dry-run")
    file.write_text("scale: mini\nmodel: {weights: none}\ntrain: {momentum: 0.8}\n")
    code, out, err = run(capsys, "train", "--config", str(file), *storage)
    assert code == 0
    assert "90000 steps" in out
    left = "data.short_side and 18 other fields have the paper's values (data.short_side 800, not 128)"
    assert (
        err == f"note: --config: {file} leaves out what makes scale mini: {left}; `--scale mini` starts from its own\n"
    )
    assert run(capsys, "train", "--scale", "mini", *storage)[2] == ""
    file.write_text("scale: coco\ndata: {root: d, train_split: a, val_split: b}\n")
    assert run(capsys, "train", "--config", str(file), *storage)[2] == ""


def test_a_file_of_an_unknown_scale(capsys, tmp_path):
    file = tmp_path / "trial.yaml"
    file.write_text("scale: mine\n")
    for command in (("table3",), ("train",), ("grid", "--axis", "dynamic.iou-top-k", "64")):
        code, _, err = run(capsys, *command, "--config", str(file))
        assert code == 2
        assert f"--config: {file}: scale: 'mine' is not allowed; allowed: smoke, mini, photos, coco" in err
    grid = tmp_path / "grid.yaml"
    grid.write_text("axes: {dynamic.iou_top_k: [64]}\nbase: {scale: mine}\n")
    code, _, err = run(capsys, "grid", str(grid), "--dry-run")
    assert code == 2
    assert "scale: 'mine' is not allowed" in err


def test_the_scale_of_a_grids_file_is_what_its_other_fields_start_from(capsys, tmp_path):
    file, start = tmp_path / "grid.yaml", tmp_path / "start.yaml"
    file.write_text("axes: {dynamic.iou_top_k: [64]}\nbase: {scale: smoke}\n")
    start.write_text("scale: coco\n")
    storage = ("--storage", str(tmp_path / "store"), "--dry-run")
    for flags in ((), ("--scale", "smoke")):
        code, out, _ = run(capsys, "grid", str(file), *flags, *storage)
        assert code == 0
        assert "scale smoke: 1 rows" in out
        assert "  10 steps of 4 images on 1 workers" in out
    for flags in (("--scale", "coco"), ("--config", str(start))):
        code, _, err = run(capsys, "grid", str(file), *flags, *storage)
        assert code == 2
        assert "base.scale: 'smoke' is not that of the other fields, 'coco'; leave one out" in err


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:secret@host:5000",
        "http://user:a/secret@host:5000",
        "https://host/?token=secret",
        "https://host:5000/api#secret",
        "postgresql://user:secret@host/runs",
    ],
)
def test_a_password_has_no_place_in_results(capsys, tmp_path, uri: str):
    secret = ("--run.mlflow", uri, "--storage", str(tmp_path))
    for command in (("table3",), ("train",), ("search", "--name", "a", "--range", "dynamic.iou-top-k", "32", "64")):
        code, out, err = run(capsys, *command, *secret)
        assert code == 2
        assert "run.mlflow: names a user or a token, and results carry the whole URI" in err
        assert "secret" not in out + err
    assert not list(tmp_path.iterdir())


def test_the_file_of_a_grid_comes_first(capsys, tmp_path):
    """Behind another flag its base and seeds would not be read."""
    file = tmp_path / "mine.yaml"
    file.write_text("base: {train.steps: 77}\naxes: {dynamic.iou_top_k: [64]}\n")
    code, out, _ = run(capsys, "grid", "--scale", "smoke", str(file), "--dry-run", "--storage", str(tmp_path))
    assert code == 0
    assert "77 steps" in out
    code, _, err = run(capsys, "grid", "--dry-run", str(file))
    assert code == 2
    assert f"{file}: must come first" in err


def test_what_a_module_says_is_no_flag(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from dynrcnn_ray.paper.table4 import EXPERIMENT\n")
    for flag in (("--name", "mine"), ("--title", "mine"), ("--baseline", "dynamic.dla=false"), ("--metrics", "AP")):
        code, _, err = run(capsys, "grid", "--module", str(file), *flag, "--dry-run", "--scale", "smoke")
        assert code == 2
        assert f"{flag[0]}: {file} says it; leave it out" in err


def test_a_module_takes_the_place_of_no_other_table(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from dynrcnn_ray.paper.table4 import EXPERIMENT\n")
    code, _, err = run(capsys, "grid", "--module", str(file), "--dry-run", "--scale", "smoke")
    assert code == 2
    assert "name: 'table4' is that of another table; choose one of your own" in err
