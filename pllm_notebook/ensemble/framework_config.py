"""How `ParallelLLM` carries out its requests: one frozen value, and presets of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from pllm_notebook.ensemble.judge_prompt import DECISION_MAKER_PROMPT
from pllm_notebook.exceptions import guess
from pllm_notebook.request_errors import ConfigurationError

__all__ = [
    "DECISION_MAKER_PROMPT",
    "ConfigurationManager",
    "FrameworkConfig",
    "changed",
    "create_default_config",
    "create_development_config",
    "create_performance_config",
    "create_robust_config",
]

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class FrameworkConfig:
    """The settings of a `ParallelLLM`. `update_config` gives it another one.

    Attributes:
        num_processors: Answers to each request, all asked for at once.
        timeout: Seconds that one call may take.
        max_retries: Times a call that failed in a way that can pass is sent again. A refusal by a rate
            limit counts while the provider lets no other call through; a call is tried for no longer than
            timeout * (max_retries + 1) seconds after its first failure.
        decision_maker_model: Who decides where the answers differ. None for the cheap current model of the
            provider of the first processor, or that processor's own model where the provider has no such.
        decision_maker_temperature: Of that call; sent only to a model that takes one.
        decision_maker_prompt: Its instruction. Marks for each candidate and the answer are asked for in any case.
        enable_logging: Whether requests are reported to the logger "pllm_notebook": how many processors answered
            and how it was decided, never contents or keys.
        log_level: The level which that logger gets. Its lines go where the program's own logging setup sends them;
            in a program without one, to standard error.

    Raises:
        ConfigurationError: For a value outside its range. Nothing was sent.
    """

    num_processors: int = 3
    timeout: float = 30.0
    max_retries: int = 2
    decision_maker_model: str | None = None
    decision_maker_temperature: float = 0.1
    decision_maker_prompt: str = DECISION_MAKER_PROMPT
    enable_logging: bool = True
    log_level: str = "INFO"

    def __post_init__(self) -> None:
        _check("num_processors", self.num_processors, "a whole number of at least 1", _whole(self.num_processors, 1))
        _check("timeout", self.timeout, "a number of seconds above 0", _number(self.timeout) and self.timeout > 0)
        _check("max_retries", self.max_retries, "a whole number of at least 0", _whole(self.max_retries, 0))
        warmth, who, told = self.decision_maker_temperature, self.decision_maker_model, self.decision_maker_prompt
        _check("decision_maker_temperature", warmth, "a number from 0 to 2", _number(warmth) and 0 <= warmth <= 2)
        model = who is None or (isinstance(who, str) and bool(who.strip()))
        _check("decision_maker_model", who, "a model ('provider:name') or None", model)
        _check("decision_maker_prompt", told, "text that is not empty", isinstance(told, str) and bool(told.strip()))
        _check("enable_logging", self.enable_logging, "True or False", isinstance(self.enable_logging, bool))
        level = self.log_level.upper() if isinstance(self.log_level, str) else self.log_level
        _check("log_level", self.log_level, f"one of {', '.join(_LEVELS)}", level in _LEVELS)
        object.__setattr__(self, "log_level", level)

    def summary(self) -> dict[str, Any]:
        """Return the settings as plain values, the instruction by its length alone."""
        told = self.decision_maker_prompt
        kind = "default" if told == DECISION_MAKER_PROMPT else "own"
        shown = {"decision_maker_prompt": f"{kind}, {len(told):,} characters", "logging_enabled": self.enable_logging}
        return asdict(self) | shown


class ConfigurationManager:
    """The settings in force, and how they are changed.

    Args:
        config: To begin with; None for the defaults.
    """

    def __init__(self, config: FrameworkConfig | None = None) -> None:
        self.config = FrameworkConfig() if config is None else config

    def update_config(self, **values: Any) -> None:
        """Change settings.

        Raises:
            ConfigurationError: For a name that is no setting, or a value outside its range; nothing is changed then.
        """
        self.config = changed(self.config, values)

    def get_config(self) -> FrameworkConfig:
        """Return the settings in force."""
        return self.config

    def get_config_summary(self) -> dict[str, Any]:
        """Return the settings in force as plain values."""
        return self.config.summary()


def changed(config: FrameworkConfig, values: Mapping[str, Any]) -> FrameworkConfig:
    """Return *config* with *values* in place of some of its settings.

    Raises:
        ConfigurationError: For a name that is no setting, or a value outside its range. Nothing was sent.
    """
    known = [field.name for field in fields(FrameworkConfig)]
    for name in values:
        if name not in known:
            raise ConfigurationError(
                f"There is no setting {name!r}.{guess(name, known)} The settings are {', '.join(known)}. "
                f"Nothing was sent."
            )
    return replace(config, **values)


def create_default_config() -> FrameworkConfig:
    """Return the defaults: 3 processors, 30 s, 2 retries."""
    return FrameworkConfig()


def create_performance_config() -> FrameworkConfig:
    """Return settings for a quick answer: 5 processors, 20 s, 1 retry, a decision maker at temperature 0."""
    return FrameworkConfig(num_processors=5, timeout=20.0, max_retries=1, decision_maker_temperature=0.0)


def create_robust_config() -> FrameworkConfig:
    """Return settings for a bad connection: 3 processors, 60 s, 3 retries."""
    return FrameworkConfig(num_processors=3, timeout=60.0, max_retries=3)


def create_development_config() -> FrameworkConfig:
    """Return settings for trying things out: 2 processors, 15 s, 1 retry, everything logged."""
    return FrameworkConfig(num_processors=2, timeout=15.0, max_retries=1, log_level="DEBUG")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(name: str, value: Any, wanted: str, fine: bool) -> None:
    if not fine:
        raise ConfigurationError(f"{name} is {wanted}, not {value!r}. Nothing was sent.")
