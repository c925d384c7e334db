"""Measurements whose numbers stand in the docs, each with the command that gives them."""
