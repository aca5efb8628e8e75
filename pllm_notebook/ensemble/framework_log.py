"""The log of a framework: its own lines, at its own level, and where they go while the program has no handler."""

from __future__ import annotations

import logging
import sys

from pllm_notebook.ensemble.framework_config import FrameworkConfig

__all__ = ["show_log", "write_log"]

_LOGGER = logging.getLogger("pllm_notebook")


def write_log(config: FrameworkConfig, level: int, message: str, *values: object) -> None:
    """Write a line where *config* wants one of this level."""
    if not config.enable_logging or level < logging.getLevelNamesMapping()[config.log_level]:
        return
    # A level that the program set counts. Without one this framework's own does, for its own lines: a level set
    # on the logger would be in force for all else that the package logs, in the whole process.
    shown = _LOGGER.isEnabledFor(level) if _LOGGER.level else logging.root.manager.disable < level
    if shown:
        _LOGGER.handle(_LOGGER.makeRecord(_LOGGER.name, level, __file__, 0, message, values, None, "write_log"))


class _FallbackHandler(logging.Handler):
    """Write to standard error as long as the program has no handler of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers or any(handler is not self for handler in _LOGGER.handlers):
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)


def show_log() -> None:
    """Write lines of the logger "pllm_notebook" to standard error as long as the program has no handler."""
    if not any(isinstance(handler, _FallbackHandler) for handler in _LOGGER.handlers):
        handler = _FallbackHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
        _LOGGER.addHandler(handler)
