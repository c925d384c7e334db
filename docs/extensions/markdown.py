"""Builds Markdown tables, for directives that generate them."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    """Builds a Markdown table.

    Args:
        head: the cells of its head.
        rows: the cells of each row; `|` in them is escaped.
        align: a letter per column, l or r; by default all columns are l.

    Returns:
        The lines of the table.
    """
    rules = ["---:" if side == "r" else ":---" for side in align or "l" * len(head)]
    lines = [head, rules, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
