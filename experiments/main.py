"""Dynamic R-CNN on Ray: run the paper's tables and look at what they gave.

python experiments/main.py                 what there is
python experiments/main.py list            every experiment, its place in the paper, its rows and trials
python experiments/main.py table3          train, evaluate and print Table 3; so for table1, table4, table5, table6
python experiments/main.py train           train one trial
python experiments/main.py evaluate        evaluate a trained trial on any split; write the COCO server's results file
python experiments/main.py speed           images per second of Dynamic against Cascade R-CNN
python experiments/main.py report          draw tables and figures again, from the store alone

Every command takes --help.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

# The repository is importable whether or not it is installed, also in a Ray job's working directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dynrcnn_ray.config import ConfigError
from experiments import commands, evaluate, speed, table1, table3, table4, table5, table6
from experiments.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = tuple(table.EXPERIMENT for table in (table1, table3, table4, table5, table6))


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 a trial failed, 2 the command was wrong.
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
        if command == "speed":
            return speed.run_speed(rest)
        if command == "evaluate":
            return evaluate.evaluate_trial(rest)
        if command == "report":
            return commands.report(rest)
        if command in by_name:
            return commands.run_experiment(by_name[command], rest)
        known = ", ".join(["list", "train", "evaluate", "speed", "report", *by_name])
        raise ConfigError(f"unknown command {command!r}; allowed: {known}")
    except ValueError as error:
        # A user's mistake: what is wrong, in one line. Anything else is ours and shows its traceback.
        if not getattr(type(error), "__module__", "").startswith("dynrcnn_ray"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
