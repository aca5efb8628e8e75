"""Arguments of `resume_directory` under the names of another package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from pllm_notebook.exceptions import UnknownOptionError, UsageError

__all__ = ["MinorTweaks", "apply_tweaks"]

_NAMES = {
    "async_max_concurrent": "max_concurrent",
    "batch_user_confirmation": "confirm",
    "batch_wait_until_complete": "wait",
    "error_mode": "errors",
    "max_concurrent": "max_concurrent",
}
_ERRORS = {"raise": "raise", "emit": "coerce", "ignore": "coerce"}


class MinorTweaks(TypedDict, total=False):
    """Some arguments of `resume_directory` under other names.

    Attributes:
        max_concurrent: `max_concurrent`.
        async_max_concurrent: Another name of `max_concurrent`.
        batch_user_confirmation: `confirm`.
        batch_wait_until_complete: `wait`.
        error_mode: `errors`: "raise" is "raise"; "emit" and "ignore" are "coerce", which logs failures and continues.
    """

    max_concurrent: int | None
    async_max_concurrent: int | None
    batch_user_confirmation: bool
    batch_wait_until_complete: bool
    error_mode: Literal["raise", "emit", "ignore"]


def apply_tweaks(tweaks: MinorTweaks | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge *tweaks* into the arguments of `resume_directory`.

    Args:
        tweaks: None for none.
        given: The arguments that were given.

    Raises:
        UnknownOptionError: For an unknown tweak. Nothing was sent.
        UsageError: For a tweak that contradicts an argument, or an invalid value. Nothing was sent.
    """
    merged = dict(given)
    for tweak, value in (tweaks or {}).items():
        if tweak not in _NAMES:
            raise UnknownOptionError(tweak, _NAMES)
        name = _NAMES[tweak]
        if tweak == "error_mode":
            if value not in _ERRORS:
                raise UsageError(f"error_mode is 'raise', 'emit' or 'ignore', not {value!r}. Nothing was sent.")
            value = _ERRORS[value]
        # An argument that was given counts even if it is the default. The same holds for two tweaks of one argument.
        if name in merged and merged[name] != value:
            raise UsageError(f"{name}={merged[name]!r} and the tweak {tweak!r} differ: pass one. Nothing was sent.")
        merged[name] = value
    return merged
