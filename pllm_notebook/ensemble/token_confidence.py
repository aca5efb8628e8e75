"""A model's confidence in its answers, from the token probabilities of its replies."""

from __future__ import annotations

from collections.abc import Sequence

from pllm_notebook.execution import CallSpec, Outcome, options_by_path
from pllm_notebook.protocols import Store
from pllm_notebook.providers import token_formats, value_steps
from pllm_notebook.schema import ChoiceField, chosen_option, option_shares, spans_by_path
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["TokenConfidence"]


class TokenConfidence:
    """Compute the probability of each answer's least certain value, over some fields.

    Args:
        spec: The spec, with token probabilities.
        fields: The fields that count. A list has no token probabilities and is skipped, as is a field that a reply
            leaves out. If any other field has none, the confidence is unknown: it could be the least certain one.
        store: The store with the replies. None if the outcomes have them.
    """

    def __init__(self, spec: CallSpec, fields: Sequence[ChoiceField], store: Store | None) -> None:
        assert spec.output is not None
        self._store = store
        wrapped = spec.fitted is not None and spec.fitted.wrapped
        self._options = options_by_path(spec.output, wrapped=wrapped)
        self._paths = [("value", *each.path) if wrapped else each.path for each in fields if each.kind != "labels"]
        self._formats = token_formats()

    def __call__(self, outcomes: Sequence[Outcome]) -> list[float]:
        """Return the confidence of each answer, -inf if it is unknown."""
        keys = [one.last or one.key for one in outcomes if one.failure is None and one.entry is None]
        known = {} if self._store is None else self._store.get_many(list(dict.fromkeys(keys)))
        return [
            -float("inf")
            if one.failure is not None or (entry := one.entry or known.get(one.last or one.key)) is None
            else self._least(entry)
            for one in outcomes
        ]

    def _least(self, entry: StoredReply) -> float:
        if entry.finish is not Finish.COMPLETE:
            return -float("inf")
        text = entry.text.decode("utf-8", "surrogatepass")
        steps = value_steps(entry.raw, self._formats, text, self._options)
        if steps is None:
            return -float("inf")
        written, found = spans_by_path(text), []
        for path in self._paths:
            options, own = self._options[path], steps.get(path)
            if len(options) == 1:  # there was nothing to choose
                found.append(1.0)
                continue
            if own is None and path not in written:
                continue
            shares, chosen = option_shares(own or [], options), chosen_option(own or [], options)
            if shares is None or chosen is None:
                return -float("inf")
            found.append(shares.p[chosen])
        return min(found, default=-float("inf"))
