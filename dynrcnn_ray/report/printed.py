"""Prints what was drawn of an experiment."""

from dynrcnn_ray.report.report import DrawnReport


def print_report(experiment: str, drawn: DrawnReport) -> None:
    """Print an experiment's table, where its files are, and its result in a sentence."""
    print()
    if not drawn.table:
        print("\n".join(drawn.paths) or f"{experiment}: no finished trial has recorded what it shows")
        return
    print(drawn.table)
    print("\n".join(drawn.paths))
    if drawn.conclusion:
        print(f"\n{drawn.conclusion}")
