"""Token probabilities of a call: how they are requested, what is kept of the reply, and under which key.

They are not part of the cache key: a call that requests them has the key of the plain call, and its reply serves plain
calls. If a plain reply is already stored, it keeps its key and its value, and the call that requests probabilities gets
a second key (see `beside`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.providers import OTHER_WAYS, ResolvedModel, TokenFormat, compacted, value_steps
from pllm_notebook.schema import FittedSchema, OutputType, Path, spelling
from pllm_notebook.stored_reply import StoredReply

__all__ = ["TokenQuestion", "beside", "options_by_path"]


class TokenQuestion:
    """The token probabilities of one spec: request them, and read them from replies.

    Args:
        target: The model.
        form: The token format of the model's wire.
        options: Options of the values that have some, by path in the reply's JSON.
    """

    def __init__(self, target: ResolvedModel, form: TokenFormat, options: Mapping[Path, Sequence[str]]) -> None:
        self._target = target
        self._form = form
        self._options = options

    @classmethod
    def of(
        cls, target: ResolvedModel, output: OutputType | None, fitted: FittedSchema | None, body: Mapping[str, Any]
    ) -> TokenQuestion | None:
        """Build it for a type; None for plain text, which has no options.

        Raises:
            UsageError: If the model gives no token probabilities. Nothing was sent.
        """
        if output is None or fitted is None:
            return None
        form = target.token_format
        if form is None or target.gives_tokens(body) is False:
            raise UsageError(_none_given(target, body))
        return cls(target, form, options_by_path(output, wrapped=fitted.wrapped))

    def ask(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the fields that request token probabilities to a body."""
        return self._form.ask(body)

    def kept(self, raw: bytes, text: str) -> bytes:
        """Return the response to store, with the tokens of the values instead of all tokens."""
        content, has_any = compacted(raw, (self._form,), text, self._options)
        self._target.note_tokens(has_any=has_any)
        return content

    def has_tokens(self, entry: StoredReply) -> bool:
        """Return whether a stored reply has token probabilities."""
        return value_steps(entry.raw, (self._form,), entry.text.decode("utf-8", "replace"), self._options) is not None


def beside(key: str) -> str:
    """Return the key of a call that requests probabilities when a plain reply is already stored under *key*."""
    digest = hashlib.sha256(b"token probabilities\0" + key.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def options_by_path(output: OutputType, *, wrapped: bool) -> dict[Path, tuple[str, ...]]:
    """Return the options of a reply's values, in JSON spelling. Lists of labels are left out."""
    return {
        ("value", *choice.path) if wrapped else choice.path: tuple(spelling(one).decode() for one in choice.options)
        for choice in output.choices
        if choice.kind != "labels"
    }


def _none_given(target: ResolvedModel, body: Mapping[str, Any]) -> str:
    """Return the error message for a model without token probabilities, with what can be done."""
    reasons = target.token_format is not None and target.may_reason(body)
    switched_off = reasons and "none" in (target.efforts or ())
    why = " while it reasons; with effort='none' it may" if switched_off else ""
    return f"{target.label} gives no token probabilities{why}. {OTHER_WAYS} Nothing was sent."
