"""The input of a decision endpoint for each row, separate from the question.

The endpoint judges its whole input: it would judge a question inside it instead of answering it. So the prompt's own
words go to the instructions, and the input has only the row's values.
"""

from __future__ import annotations

from collections.abc import Sequence

from pllm_notebook.failures import Failure
from pllm_notebook.frames.rows import ColumnData, prompts_of
from pllm_notebook.messages_types import Prompt
from pllm_notebook.templates import Template

__all__ = ["ValueTexts", "task_of"]


def task_of(template: Template | None) -> str:
    """Return the task that a prompt states, without the rows' values; "" without a prompt."""
    if template is None:
        return ""
    source, names = template.source.strip(), dict.fromkeys(template.names)
    if not names:
        return source
    if len(template.names) == 1 and any(not part.strip() for part in template.literals):
        return "".join(template.literals).strip()
    if len(names) == 1:
        return f"In this task {{{template.names[0]}}} is the input:\n{source}"
    return f"In this task a name in braces is the input's field of that name:\n{source}"


class ValueTexts:
    """The rows' values that a template names: the text of one column, or a JSON object of several.

    Args:
        given: The columns that the template names, in its order.
        template: The prompt.
        na: As in `Options`.
    """

    source = ""

    def __init__(self, given: ColumnData, template: Template, na: str) -> None:
        places = {name: at for at, name in enumerate(given.names)}
        names = tuple(places)
        own = ColumnData(
            names,
            tuple(given.values[at] for at in places.values()),
            tuple(given.missing[at] for at in places.values()),
            given.total,
        )
        single = Template(f"{{{names[0]}}}", ("", ""), names) if len(names) == 1 else None
        self._texts = prompts_of(own, single, na, needs_all=True) if names else None

    def __call__(self, rows: range) -> Sequence[Prompt | Failure | None]:
        return [""] * len(rows) if self._texts is None else self._texts(rows)

    def items(self, rows: range) -> list[bytes]:
        """Return an empty list: decision inputs are never packed."""
        return []
