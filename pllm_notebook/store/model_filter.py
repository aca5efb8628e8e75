"""Selection of stored answers and failures by model, for `pllm.cache.clear` and `pllm.errors`."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pllm_notebook.callers import caller_stack_level
from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.formatting import strip_control_chars

__all__ = ["ModelFilter", "asked_model", "same_model"]

# A date or serial number at the end of the name in a reply: -2026-08-01, -20260801, @20260801, -001.
_VERSION = re.compile(r"([-@](\d{3,4}|\d{8}|\d{4}-\d\d-\d\d))?")
_SIMULATED = "sim:"
_NAMED = 10


class ModelFilter:
    """Select the entries of one model, and count the models of all entries.

    Args:
        model: As for `same_model`, None for every model.
        unchanged: The last sentence of an error message: "Nothing was deleted."

    Attributes:
        known: Number of entries, by model.
        matched: Number of entries of the selected model.

    Raises:
        UsageError: If *model* is not a model name.
    """

    def __init__(self, model: str | None, unchanged: str) -> None:
        if model is not None and not (isinstance(model, str) and model.rpartition(":")[2].strip()):
            raise UsageError(
                f"model= is a model's name, such as 'openai:gpt-6-luna' or 'gpt-6-luna', not {model!r}. {unchanged}"
            )
        self._model = model
        self.known: Counter[str] = Counter()
        self.matched = 0

    def takes(self, name: str) -> bool:
        """Count an entry whose model is *name*, and return whether it is selected."""
        self.known[name] += 1
        found = self._model is None or same_model(name, self._model)
        self.matched += found
        return found

    def warn_unless_matched(self, place: str) -> None:
        """Warn if *place* has no entry of the model, so that a misspelt name is noticed."""
        if self._model is None or self.matched:
            return
        names = [strip_control_chars(name) for name, _ in self.known.most_common()]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        there = f"There are {', '.join(names[:_NAMED])}{more}." if names else "It holds no answers."
        near = guess(self._model, names)
        warnings.warn(f"No answer in {place} is from the model {self._model!r}, so nothing was deleted.{near} {there}",
                      stacklevel=caller_stack_level())  # fmt: skip


def asked_model(metadata: Mapping[str, Any]) -> str:
    """Return the model that a call asked for if the run recorded it, otherwise the provider's name for it."""
    return str(metadata.get("asked") or metadata.get("model") or "unknown")


def same_model(kept: str, wanted: str) -> bool:
    """Return whether two models are the same: by provider and name, or by name if one has no provider.

    `sim:openai` matches every simulated OpenAI model.
    """
    if wanted.startswith(_SIMULATED) and kept.startswith(f"{wanted}/"):
        return True
    kept_provider, _, kept_name = kept.rpartition(":")
    provider, _, name = wanted.rpartition(":")
    if provider and kept_provider and provider != kept_provider:
        return False
    # gpt-6 includes gpt-6-2026-08-01, but not gpt-6-luna or gpt-6-1, which are other models.
    return kept_name.startswith(name) and _VERSION.fullmatch(kept_name[len(name) :]) is not None
