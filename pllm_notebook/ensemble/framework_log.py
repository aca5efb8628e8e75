"""Logging of `ParallelLLM`: its own level, and a fallback handler while the program has none."""

from __future__ import annotations

import logging
import sys

from pllm_notebook.ensemble.framework_config import FrameworkConfig

__all__ = ["show_log", "write_log"]

_LOGGER = logging.getLogger("pllm_notebook")


def write_log(config: FrameworkConfig, level: int, message: str, *values: object) -> None:
    """Log a line if *config* enables its level."""
    if not config.enable_logging or level < logging.getLevelNamesMapping()[config.log_level]:
        return
    # A level set by the program wins. Otherwise this framework's own level applies to its own lines: setting it on the
    # logger would change everything else that the package logs, in the whole process.
    shown = _LOGGER.isEnabledFor(level) if _LOGGER.level else logging.root.manager.disable < level
    if shown:
        _LOGGER.handle(_LOGGER.makeRecord(_LOGGER.name, level, __file__, 0, message, values, None, "write_log"))


class _FallbackHandler(logging.Handler):
    """Write to standard error while the program has no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or any(handler is not self for handler in _LOGGER.handlers):
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def show_log() -> None:
    """Send lines of the logger "pllm_notebook" to standard error while the program has no handler."""
    if not any(isinstance(handler, _FallbackHandler) for handler in _LOGGER.handlers):
        handler = _FallbackHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        _LOGGER.addHandler(handler)
