"""Dynamic R-CNN on Ray: run the paper's tables and look at what they gave.

python experiments/main.py                 what there is
python experiments/main.py list            every experiment, its place in the paper, its rows and trials
python experiments/main.py table3          train, evaluate and print Table 3; so for table1 to table9
python experiments/main.py figure5         train what Figure 5 needs and draw it; so for figure1 to figure5
python experiments/main.py sync            what the all-reduce over the workers changes, with and without it
python experiments/main.py all             every table and figure; with --dry-run, the plan and how long it takes
python experiments/main.py check-data      check a data set before anything is trained on it
python experiments/main.py train           train one trial
python experiments/main.py evaluate        evaluate a trained trial on any split; write the COCO server's results file
python experiments/main.py compare A B     the difference of two trials, with its interval over the images
python experiments/main.py benchmark       measure this machine: paired comparisons with what people would use instead
python experiments/main.py pretrain        make the backbones' weights that scale mini starts from
python experiments/main.py findings        the paper's claims, each with what a store measured and a verdict
python experiments/main.py report          draw tables and figures again, from the store alone

Every command takes --help.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository is importable whether or not it is installed, also in a Ray job's working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    from experiments.endings import run_command

    # Imports this file again, as a module. What follows here takes a second, and must end as well as the rest.
    sys.exit(run_command(sys.argv[1:]))

from dynrcnn_ray.config_yaml import ConfigError
from experiments import (
    benchmark,
    check_data,
    commands,
    compare,
    evaluate,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    pretrain,
    sync,
    table1,
    table2,
    table3,
    table4,
    table4_wide,
    table5,
    table6,
    table7,
    table8,
    table9,
)
from experiments.experiment import Experiment

OF_THE_PAPER: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT
    for module in (
        table1,
        table2,
        table3,
        table4,
        table5,
        table6,
        table8,
        table9,
        figure1,
        figure2,
        figure3,
        figure4,
        figure5,
    )
)
"""What `all` runs. Table 7 is timed, not trained: it has a command of its own."""
EXPERIMENTS = (*OF_THE_PAPER, table4_wide.EXPERIMENT, sync.EXPERIMENT)


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 a trial failed, 2 the command was wrong. See `endings` for 130, 141 and 143.
    """
    command, *rest = arguments or ["help"]
    by_name = {experiment.name: experiment for experiment in EXPERIMENTS}
    try:
        if command in ("help", "-h", "--help"):
            print((__doc__ or "").strip())
            return 0
        if command == "list":
            return commands.list_experiments(EXPERIMENTS, rest)
        if command == "train":
            return commands.train_one(rest)
        if command == "all":
            return commands.run_all(OF_THE_PAPER, rest)
        if command == "table7":
            return table7.run_table7(rest)
        if command == "evaluate":
            return evaluate.evaluate_trial(rest)
        if command == "check-data":
            return check_data.run_check_data(rest)
        if command == "compare":
            return compare.compare_trials(rest)
        if command == "benchmark":
            return benchmark.run_benchmark(rest)
        if command == "pretrain":
            return pretrain.run_pretrain(rest)
        if command == "findings":
            return commands.findings(rest)
        if command == "report":
            return commands.report(rest)
        if command in by_name:
            return commands.run_experiment(by_name[command], rest)
        others = (
            "list",
            "all",
            "check-data",
            "train",
            "evaluate",
            "compare",
            "benchmark",
            "pretrain",
            "findings",
            "report",
        )
        known = ", ".join([*others, *by_name, "table7"])
        raise ConfigError(f"unknown command {command!r}; allowed: {known}")
    except ValueError as error:
        # A user's mistake: what is wrong, in one line. Anything else is ours and shows its traceback.
        if not getattr(type(error), "__module__", "").startswith("dynrcnn_ray"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
