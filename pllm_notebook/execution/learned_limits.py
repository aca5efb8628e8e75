"""Rate limits that runs learned, kept beside the answers, so that the next kernel starts from them.

They are a guess for the first moments of another run, never a ceiling: a reported limit counts until the first reply,
which reports it again or not at all, and an inferred rate is where the search starts. So a file that is lost, damaged
or wrong costs seconds, and nothing here raises.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import orjson

from pllm_notebook.engine import LearnedLimits
from pllm_notebook.files import replacing
from pllm_notebook.store import finish_writes

__all__ = ["FILE", "LimitCache", "limits_name"]

FILE = "limits.json"

_VERSION = 1
_DAY_S = 86_400.0
# Reported limits change with the account's tier. Inferred rates, and how many concurrent calls were useful, change from
# day to day, with the load of the server and with other users of the account.
_MAX_AGE_S = dict.fromkeys(("inferred_per_min", "window"), _DAY_S)
# The file keeps the name that earlier versions use.
_NAME_IN_FILE = {"inferred_per_min": "found_per_min"}
_REPORTED_MAX_AGE_S = 30 * _DAY_S
_MAX_DISPATCHERS = 200  # a year of trying models should not slow down the end of every run

# For each name in the file: the number, and when it was learned.
_TimedValues = dict[str, tuple[float, float]]
_FIELDS = tuple(each.name for each in fields(LearnedLimits))


class LimitCache:
    """The learned limits in one cache directory. Its file never contains keys, addresses or content.

    Several processes may write. The last write counts for each account and model; if two processes write at the same
    moment, what one of them learned is lost.

    Args:
        directory: The cache directory.
        clock: Returns seconds since 1970, used to compute ages.
    """

    def __init__(self, directory: str, clock: Callable[[], float] = time.time) -> None:
        self._directory = directory
        self._clock = clock

    def known(self, dispatcher_key: tuple[str, str, str]) -> LearnedLimits | None:
        """Return what was learned about an account and model and is not too old, None for nothing.

        Args:
            dispatcher_key: Provider or server, account (a fingerprint) and model.
        """
        finish_writes()
        facts = self._read().get(limits_name(dispatcher_key))
        if facts is None:
            return None
        values = {name: value for name, (value, _) in facts.items()}
        return LearnedLimits(**{field: values.get(_NAME_IN_FILE.get(field, field)) for field in _FIELDS})

    def keep(self, dispatcher_key: tuple[str, str, str], known: LearnedLimits) -> None:
        """Store what a run learned. Values that it did not learn again stay, with their age."""
        now, stored = self._clock(), self._read()
        learned = {
            _NAME_IN_FILE.get(field, field): (value, now) for field, value in asdict(known).items() if value is not None
        }
        stored[limits_name(dispatcher_key)] = {**stored.pop(limits_name(dispatcher_key), {}), **learned}
        newest = sorted(stored, key=lambda name: max((at for _, at in stored[name].values()), default=0.0))
        kept = {name: stored[name] for name in newest[-_MAX_DISPATCHERS:]}
        self._write(orjson.dumps({"version": _VERSION, "lanes": kept}, option=orjson.OPT_INDENT_2))

    def _read(self) -> dict[str, _TimedValues]:
        """Read the values that are not too old; anything that `keep` would not have written counts as absent."""
        try:
            with open(os.path.join(self._directory, FILE), "rb") as file:
                content = orjson.loads(file.read())
        except (OSError, ValueError):
            return {}
        stored = content.get("lanes") if isinstance(content, dict) and content.get("version") == _VERSION else None
        if not isinstance(stored, dict):
            return {}
        now = self._clock()
        read = {name: _timed_values(given, now) for name, given in stored.items() if isinstance(given, dict)}
        return {name: facts for name, facts in read.items() if facts}

    def _write(self, content: bytes) -> None:
        """Replace the file atomically, so that no reader sees half of it; do nothing in a read-only directory."""
        # Not synced: an empty file after a power cut does no harm.
        with contextlib.suppress(OSError), replacing(os.path.join(self._directory, FILE), synced=False) as file:
            file.write(content)


def limits_name(dispatcher_key: tuple[str, str, str]) -> str:
    """Return the name of an account and model in files that processes share. It contains no key and no address."""
    provider, account, model = dispatcher_key
    return f"{provider}:{model} @{account}"


def _timed_values(given: dict[str, Any], now: float) -> _TimedValues:
    facts = {}
    for field in _FIELDS:
        name = _NAME_IN_FILE.get(field, field)
        match given.get(name):
            case [int() | float() as value, int() | float() as at] if _is_sound(value):
                if 0 <= now - at <= _MAX_AGE_S.get(field, _REPORTED_MAX_AGE_S):
                    facts[name] = float(value), float(at)
    return facts


def _is_sound(value: float) -> bool:
    # No limit or window is below one. A smaller number would prevent a retry of a first call that fails.
    return not isinstance(value, bool) and math.isfinite(value) and value >= 1
