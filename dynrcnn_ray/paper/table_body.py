"""What the command of a table or figure does."""

from dynrcnn_ray.execution.run import run_experiments
from dynrcnn_ray.execution.until_decided import until_decided
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import ExperimentOptions
from dynrcnn_ray.paper.findings import paper_claims
from dynrcnn_ray.paper.paper import BESIDE, EXPERIMENTS


def run_table(options: ExperimentOptions, call: Call) -> int:
    """Run the missing trials of the experiment that has the command's name, then print its table."""
    experiment = next(each for each in (*EXPERIMENTS, *BESIDE) if each.name == call.command)
    until = until_decided(options, call, paper_claims())
    return run_experiments([experiment], options, options.seeds, call, until).exit_code
