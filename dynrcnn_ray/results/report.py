"""Draw an experiment's table and figure from the store alone."""

from dynrcnn_ray.results.figures import draw_figure5, figure_bytes
from dynrcnn_ray.results.store import ResultStore, StoreError
from dynrcnn_ray.results.table_text import table_to_markdown
from dynrcnn_ray.results.tables import build_table, table_to_parquet_bytes


def draw_report(store: ResultStore, experiment: str) -> list[str]:
    """Write an experiment's table and, if any of its trials has finished with logged steps, Figure 5.

    Trials that have not finished show as such; drawing again later fills them in.

    Returns:
        Absolute paths or URIs of the files written.

    Raises:
        StoreError: the experiment was never run in this store, or the store cannot be read or written.
    """
    plan = store.plan(experiment)
    if plan is None:
        known = ", ".join(store.experiments()) or "none"
        raise StoreError(
            f"{store.describe_path('plans')} has no {experiment!r}, only: {known}; run the experiment first"
        )

    trials = store.trials(plan["trial_id"].dropna())
    table = build_table(plan, trials)
    files = {
        f"tables/{experiment}.parquet": table_to_parquet_bytes(table, plan),
        f"tables/{experiment}.md": table_to_markdown(table, plan).encode(),
    }
    dynamics = store.dynamics(trials.loc[trials["status"] == "finished", "trial_id"])
    if len(dynamics):
        figure = draw_figure5(plan, dynamics)
        # Figure 5 is Table 3's; the same trends of another experiment stand beside it.
        name = "figure5" if experiment == "table3" else f"figure5_{experiment}"
        files |= {
            f"figures/{name}.png": figure_bytes(figure, "png"),
            f"figures/{name}.svg": figure_bytes(figure, "svg"),
        }

    for relative, content in files.items():
        store.write_bytes(relative, content)
    return [store.describe_path(relative) for relative in files]
