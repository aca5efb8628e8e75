"""Showing this package's log in a program that has set up no logging of its own."""

from __future__ import annotations

import logging
import sys

__all__ = ["show_log"]

_logger = logging.getLogger("pllm_notebook")


class _FallbackHandler(logging.Handler):
    """Write to standard error as long as the program has no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or any(handler is not self for handler in _logger.handlers):
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def show_log(level: str) -> None:
    """Set the level of the logger "pllm_notebook", and see to it that its lines are seen."""
    _logger.setLevel(level)
    if not any(isinstance(handler, _FallbackHandler) for handler in _logger.handlers):
        handler = _FallbackHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        _logger.addHandler(handler)
