"""The paper's figures, one module each: pure functions from the store's frames to a matplotlib figure."""
