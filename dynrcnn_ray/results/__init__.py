"""The results floor: Parquet schemas and store, and the tables and figures that are drawn from them alone."""
