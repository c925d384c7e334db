"""The HTML report of one run, a module per block."""
