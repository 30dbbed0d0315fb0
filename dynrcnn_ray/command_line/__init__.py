"""What the commands share: how one is parsed, run and ended."""
