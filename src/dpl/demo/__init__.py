"""A page for the browser where images are dropped on a run: what zero-shot makes of them, and what the tuned model does."""
