"""The command `report`: every table and figure of a store again, and its page."""

from dynrcnn_ray.command_line.command import Call, Command
from dynrcnn_ray.command_line.options import StoredOptions, storage_location


def report(options: StoredOptions, call: Call) -> int:
    """Draw them from the store alone."""
    from dynrcnn_ray.command_line.running import print_findings, print_report
    from dynrcnn_ray.results.html.page import draw_html_report, read_trials
    from dynrcnn_ray.results.store import ResultStore

    store = ResultStore.open(storage_location(options.storage, options.scale))
    experiments = store.experiments()
    if not experiments:
        print(f"{store.files.describe_path('')} holds no results yet; run an experiment first, such as table3")
        return 0
    store.fold()
    trials = read_trials(store)
    for name in experiments:
        print_report(store, name, trials)
    paper = call.program.paper
    if paper and paper.rows().keys() & set(experiments):
        print_findings(store, paper, call.shown(options.storage, store), trials)
    print(f"\n{draw_html_report(store, trials)}")
    return 0


COMMAND = Command(
    name="report",
    title="draw tables and figures again, from the store alone, and report.html",
    description="Draw every table and figure of a store again, and report.html: one page that needs no other file.",
    options=StoredOptions,
    run=report,
)
