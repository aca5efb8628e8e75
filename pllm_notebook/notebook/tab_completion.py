"""Tab completion on a line of `%%pllm` or `%pllm`: options, their values, models, the notebook's variables."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

from pllm_notebook.notebook.arguments import CHOICES, OPTION_FLAGS, SWITCHES
from pllm_notebook.notebook.line_magic import COMMANDS
from pllm_notebook.providers import registry
from pllm_notebook.settings import current

__all__ = ["load", "unload"]

_ATTRIBUTE = "_pllm_matcher"


def load(shell: Any) -> None:
    """Register the completions with *shell*."""
    unload(shell)

    @context_matcher(identifier="pllm_notebook", priority=100)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> dict[str, Any]:
        line = context.text_until_cursor
        fragment, words = _match(line, shell.user_ns) if _ours(context) else ("", ())
        found = [SimpleCompletion(text=word, type="magic") for word in words]
        return {"completions": found, "matched_fragment": fragment, "suppress": bool(found)}

    shell.Completer.custom_matchers.append(matcher)
    setattr(shell, _ATTRIBUTE, matcher)


def unload(shell: Any) -> None:
    """Unregister the completions."""
    matcher = getattr(shell, _ATTRIBUTE, None)
    if matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(matcher)


def _ours(context: CompletionContext) -> bool:
    line = context.text_until_cursor
    return bool(re.match(r"%pllm\s", line) or (context.cursor_line == 0 and re.match(r"%%pllm\s", line)))


def _match(line: str, names: dict[str, Any]) -> tuple[str, Iterable[str]]:
    """Return the word before the cursor and its completions."""
    fragment = re.split(r"\s", line)[-1]
    before = line[: len(line) - len(fragment)].split()
    if line.startswith("%%"):
        last = before[-1]
        if fragment.startswith("--") and "=" in fragment and fragment.partition("=")[0] not in SWITCHES:
            last, _, fragment = fragment.partition("=")
        if last == "--model":
            known = _models()
        elif last in CHOICES and last not in SWITCHES:
            known = list(CHOICES[last])
        elif last in ("--schema", "--response-format"):
            known = _variables(names, lambda value: issubclass(type(value), type))
        elif (flag := fragment.partition("=")[0]) != fragment:
            known = [f"{flag}={choice}" for choice in CHOICES.get(flag, ())]
        elif fragment.startswith("-"):
            known = [word for word in OPTION_FLAGS if word not in before]
        elif len(before) == 1:
            known = _variables(names, _is_data)
        else:
            return fragment, ()
    elif len(before) == 1:
        known = list(COMMANDS)
    elif before[1:] == ["use"]:
        known = _models()
    else:
        return fragment, ()
    return fragment, [word for word in known if word.startswith(fragment)]


def _models() -> list[str]:
    """Return the models to offer: each provider's cheap one and the configured ones."""
    hosted = registry.hosted()
    named = [f"{provider.name}:{provider.cheap_model}" for provider in hosted]
    simulated = [
        f"sim:{kind}" for kind in (*(provider.name for provider in hosted if provider.simulated), "compatible")
    ]
    settings = current()
    own = [f"{name}:" for name in (*settings.servers, *settings.clients)]
    said = [settings.options.get("model"), os.environ.get("PLLM_MODEL")]
    return list(
        dict.fromkeys(
            [*(model for model in said if model), *named, *own, "local:smollm2", *simulated, "sim:compatible"]
        )
    )


def _variables(names: dict[str, Any], wanted: Any) -> list[str]:
    # A copy: a run's thread may bind a result at the same time.
    return sorted(name for name, value in dict(names).items() if not name.startswith("_") and wanted(value))


def _is_data(value: Any) -> bool:
    # Checked on the type only: a proxy's `__class__` may run the caller's own code.
    # Streams of Arrow data have no `.llm`, and cannot be inspected: a stream may be readable only once.
    offers = any(hasattr(type(value), name) for name in ("llm", "__arrow_c_stream__"))
    return not issubclass(type(value), type) and (offers or issubclass(type(value), (list, tuple)))
