"""Prompt layouts, the learned prompts, and their injection into the layers of a transformer."""
