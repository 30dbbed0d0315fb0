"""Names of a table's rows tell apart what the plan tells apart."""

from dynrcnn_ray.store.labels import row_names


def test_what_is_off_is_named_where_a_row_without_the_column_would_have_the_same_name():
    rows = [{"K": "64"}, {"K": "64", "dsl": ""}, {"K": "100", "dsl": ""}, {"K": "64", "dsl": "✓"}]
    assert row_names(rows) == ["K = 64", "K = 64, no dsl", "K = 100", "dsl, K = 64"]


def test_table_3_is_named_by_what_is_on():
    rows = [{"DLA": dla, "DSL": dsl} for dla in ("", "✓") for dsl in ("", "✓")]
    assert row_names(rows) == ["baseline", "DSL", "DLA", "DLA + DSL"]
