"""The program from a checkout, grids beyond the paper, and what was run: `reference_*`."""
