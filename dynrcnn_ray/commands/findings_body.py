"""What the command `findings` does: judges the claims that a store can judge, and draws the page again."""

from dynrcnn_ray.commands.judged import holds_claims, print_findings
from dynrcnn_ray.execution.stored_trial import existing_store
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import StoredOptions
from dynrcnn_ray.report.html.page import draw_html_report, read_trials


def findings(options: StoredOptions, call: Call) -> int:
    """Judge the claims, and draw the store's page again."""
    store = existing_store(options)
    place = store.files.describe_path("")
    if not holds_claims(store):
        print(f"{place} holds none of the paper's tables and no claims yet; run one first, such as table3")
        return 0
    store = store.fold()
    trials = read_trials(store)
    print_findings(store, call.shown(options.storage, place.rstrip("/")), trials)
    print(f"\n{draw_html_report(store, trials, call.program.page_sections())}")
    return 0
