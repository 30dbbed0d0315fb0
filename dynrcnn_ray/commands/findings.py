"""The command `findings`: the paper's claims, each with what a store has measured and a verdict."""

from dynrcnn_ray.command_line.command import Call, Command
from dynrcnn_ray.command_line.options import StoredOptions, storage_location


def findings(options: StoredOptions, call: Call) -> int:
    """Judge the claims, and draw the store's page again."""
    from dynrcnn_ray.command_line.running import print_findings
    from dynrcnn_ray.results.html.page import draw_html_report, read_trials
    from dynrcnn_ray.results.speed_table import SPEED_FILE
    from dynrcnn_ray.results.store import ResultStore

    paper = call.program.paper
    assert paper
    store = ResultStore.open(storage_location(options.storage, options.scale))
    known = paper.rows().keys() & set(store.experiments())
    if not known and store.files.read_bytes(SPEED_FILE) is None:
        place = store.files.describe_path("")
        print(f"{place} holds none of the paper's tables yet; run one first, such as table3")
        return 0
    store = store.fold()
    trials = read_trials(store)
    print_findings(store, paper, call.shown(options.storage, store), trials)
    print(f"\n{draw_html_report(store, trials)}")
    return 0


COMMAND = Command(
    name="findings",
    title="the paper's claims, each with what a store measured and a verdict",
    description="Set the paper's claims against what a store has measured: each gets an interval and a verdict.",
    options=StoredOptions,
    run=findings,
    of_paper=True,
)
