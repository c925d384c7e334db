"""Data: tasks (class names, templates, items), few-shot samples, and pixels for the model."""
