"""The data room: a task (class names, templates, items), its few-shot sample, and pixels for the model."""
