"""Settings of `ParallelLLM`: one frozen value, and presets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import wraps
from typing import Any, Unpack

from pllm_notebook.ensemble.judge_prompt import DECISION_MAKER_PROMPT
from pllm_notebook.exceptions import guess
from pllm_notebook.options import FrameworkOptions, check, fields_of, is_finite, option
from pllm_notebook.request_errors import ConfigurationError
from pllm_notebook.signatures import shows

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
    """The settings of a `ParallelLLM`. Replace them with `update_config`.

    Raises:
        ConfigurationError: For a value outside its range. Nothing was sent.
    """

    num_processors: int = option(3, "Answers to each request, all requested at once.", at_least=1)
    timeout: float = option(
        30.0,
        "Time limit of one call, in seconds.",
        expects=("a number of seconds above 0", lambda value: is_finite(value) and value > 0),
    )
    max_retries: int = option(
        2,
        "Retries of a call after a transient failure. A rate-limit refusal counts only while the provider accepts no "
        "other call. No retry starts later than timeout * (max_retries + 1) seconds after a call's first failure.",
        at_least=0,
    )
    decision_maker_model: str | None = option(
        None,
        "Model that decides if the answers differ. None: the current low-cost model of the first processor's provider, "
        "or that processor's own model if the provider has none.",
        expects=(
            "a model ('provider:name') or None",
            lambda value: isinstance(value, str) and bool(value.strip()),
        ),
    )
    decision_maker_temperature: float = option(
        0.1,
        "Sampling temperature of the decision maker's call. Sent only to a model that accepts one.",
        expects=("a number from 0 to 2", lambda value: is_finite(value) and 0 <= value <= 2),
    )
    decision_maker_prompt: str = option(
        DECISION_MAKER_PROMPT,
        "System prompt of the decision maker's call. A score for each candidate and the answer are always requested.",
        expects=("text that is not empty", lambda value: isinstance(value, str) and bool(value.strip())),
    )
    enable_logging: bool = option(
        True,
        'Log requests to the logger "pllm_notebook": how many processors answered and how the answer was decided. '
        "Contents and keys are never logged.",
    )
    log_level: str = option(
        "INFO",
        "Lowest level that is logged, unless the program sets the logger's level. Lines go to the program's own "
        "logging setup, or to standard error without one.",
        choices=_LEVELS,
    )

    def __post_init__(self) -> None:
        if isinstance(self.log_level, str):
            object.__setattr__(self, "log_level", self.log_level.upper())
        known = fields_of(FrameworkConfig)
        values = {name: getattr(self, name) for name in known}
        check(known, values, allow_none=False, error=ConfigurationError)

    def summary(self) -> dict[str, Any]:
        """Return the settings as plain values, with only the length of the system prompt."""
        prompt = self.decision_maker_prompt
        kind = "default" if prompt == DECISION_MAKER_PROMPT else "own"
        shown = {"decision_maker_prompt": f"{kind}, {len(prompt):,} characters", "logging_enabled": self.enable_logging}
        return asdict(self) | shown


class ConfigurationManager:
    """Hold the current settings and change them.

    Args:
        config: The initial settings. None for the defaults.
    """

    def __init__(self, config: FrameworkConfig | None = None) -> None:
        self.config = FrameworkConfig() if config is None else config

    @shows(fields_of(FrameworkConfig))
    def update_config(self, **values: Unpack[FrameworkOptions]) -> None:
        """Change settings.

        Args:
            **values: Settings.

        Raises:
            ConfigurationError: For an unknown setting or a value out of range. Nothing is changed.
        """
        self.config = changed(self.config, values)

    def get_config(self) -> FrameworkConfig:
        """Return the current settings."""
        return self.config

    def get_config_summary(self) -> dict[str, Any]:
        """Return the current settings as plain values."""
        return self.config.summary()


def changed(config: FrameworkConfig, values: Mapping[str, Any]) -> FrameworkConfig:
    """Return *config* with the settings in *values* replaced.

    Raises:
        ConfigurationError: For an unknown setting or a value out of range. Nothing was sent.
    """
    _check_names(values)
    return replace(config, **values)


def _check_names(names: Iterable[str]) -> None:
    known = fields_of(FrameworkConfig)
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"There is no setting {name!r}.{guess(name, known)} The settings are {', '.join(known)}. "
                f"Nothing was sent."
            )


def _with_known_names(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap the constructor of `FrameworkConfig` so that it suggests a name for a misspelt one."""

    @wraps(init)
    def construct(self: FrameworkConfig, *values: Any, **named: Any) -> None:
        _check_names(named)
        init(self, *values, **named)

    return construct


setattr(FrameworkConfig, "__init__", _with_known_names(FrameworkConfig.__init__))  # noqa: B010  # a type checker's


def create_default_config() -> FrameworkConfig:
    """Return the default settings: 3 processors, 30 s, 2 retries."""
    return FrameworkConfig()


def create_performance_config() -> FrameworkConfig:
    """Return settings for quick answers: 5 processors, 20 s, 1 retry, decision maker at temperature 0."""
    return FrameworkConfig(num_processors=5, timeout=20.0, max_retries=1, decision_maker_temperature=0.0)


def create_robust_config() -> FrameworkConfig:
    """Return settings for an unreliable connection: 3 processors, 60 s, 3 retries."""
    return FrameworkConfig(num_processors=3, timeout=60.0, max_retries=3)


def create_development_config() -> FrameworkConfig:
    """Return settings for experiments: 2 processors, 15 s, 1 retry, everything logged."""
    return FrameworkConfig(num_processors=2, timeout=15.0, max_retries=1, log_level="DEBUG")
