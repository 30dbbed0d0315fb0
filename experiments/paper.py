"""The paper's experiments, as `main.py` hands them over."""

from dynrcnn_ray.command_line.command import Paper, Program
from dynrcnn_ray.command_line.tables import table_command
from dynrcnn_ray.commands import commands
from experiments import (
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    sync,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
    table7,
    table8,
    table9,
)
from experiments.findings import paper_findings, paper_rows

_OF_THE_PAPER = (
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
"""What `all` runs. Table 7 is timed, not trained: it has a command of its own."""

PAPER = Paper(
    experiments=tuple(module.EXPERIMENT for module in _OF_THE_PAPER),
    beside=(sync.EXPERIMENT,),
    findings=paper_findings,
    rows=paper_rows,
)
PROGRAM = Program(
    name="python experiments/main.py",
    description="Dynamic R-CNN on Ray: run the paper's tables and look at what they gave. Every command takes --help.",
    commands=(
        *commands(),
        *(table_command(module.EXPERIMENT, module.__doc__ or "") for module in (*_OF_THE_PAPER, sync)),
        table7.COMMAND,
    ),
    paper=PAPER,
)
