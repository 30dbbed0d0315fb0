"""A small Table 3 for these tests."""

from tests.stored_table import make_trial, store, table3_store, write_table

__all__ = ["make_trial", "store", "table3_store", "write_table"]
