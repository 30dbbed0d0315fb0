import pytest

from dynrcnn_ray.report.conclusion import conclusion
from dynrcnn_ray.report.tables import build_table


def test_one_seed_is_a_difference_beside_the_papers(table3_store):
    plan = table3_store.plan("table3")
    table = build_table(plan.loc[plan["seed"] == 0], table3_store.trials())
    last = table.iloc[3]
    assert conclusion(table) == (
        f"DLA + DSL: AP {last['delta_AP']:+.1f}, AP90 {last['delta_AP90']:+.1f} (paper +1.9, +5.5)"
    )


def test_several_seeds_give_intervals(table3_store):
    table = build_table(table3_store.plan("table3"), table3_store.trials())
    last = table.iloc[3]
    sentence = conclusion(table)
    assert f"AP {last['delta_AP']:+.1f} [{last['delta_AP_low']:+.1f}, {last['delta_AP_high']:+.1f}]" in sentence
    assert sentence.endswith(f", {last['delta_n']} seeds (paper +1.9, +5.5)")


@pytest.mark.parametrize("missing", ["the row", "the baseline", "a column"])
def test_what_is_not_there_is_not_said(table3_store, missing: str):
    plan, trials = table3_store.plan("table3"), table3_store.trials()
    table = build_table(
        plan, trials[trials["trial_id"].str[:4] != {"the row": "row3", "the baseline": "row0"}.get(missing)]
    )
    if missing == "a column":
        table = table.drop(columns="delta_AP90")
    assert conclusion(table) == ""
