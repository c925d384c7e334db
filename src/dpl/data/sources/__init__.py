"""Sources of tasks: folders, tables, the hub, the catalogue, and synthetic tasks."""
