"""The command line: commands, arguments, and what the terminal shows."""
