"""Errors, atomic files, named random generators, memory, and text."""
