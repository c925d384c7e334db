"""Schemas of the files in a run folder: pydantic models, and their readers."""
