"""One module for each table and figure of the paper, and the command line that runs them."""
