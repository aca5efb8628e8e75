"""How `ParallelLLM` carries out its requests: one frozen value, and presets of it."""

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
    """The settings of a `ParallelLLM`. `update_config` gives it another one.

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
        "Retries of a call that failed in a way that can pass. A refusal by a rate limit counts while the provider "
        "lets no other call through; no retry begins later than timeout * (max_retries + 1) seconds after a call's "
        "first failure.",
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
        "Sampling temperature of that call; sent only to a model that accepts one.",
        expects=("a number from 0 to 2", lambda value: is_finite(value) and 0 <= value <= 2),
    )
    decision_maker_prompt: str = option(
        DECISION_MAKER_PROMPT,
        "System prompt of that call. Scores for each candidate and the answer are requested in any case.",
        expects=("text that is not empty", lambda value: isinstance(value, str) and bool(value.strip())),
    )
    enable_logging: bool = option(
        True,
        'Report requests to the logger "pllm_notebook": how many processors answered and how the answer was decided, '
        "never contents or keys.",
    )
    log_level: str = option(
        "INFO",
        "Least level of these lines, unless the program sets the logger's own. They go where the program's own logging "
        "setup sends them; without one, to standard error.",
        choices=_LEVELS,
    )

    def __post_init__(self) -> None:
        if isinstance(self.log_level, str):
            object.__setattr__(self, "log_level", self.log_level.upper())
        known = fields_of(FrameworkConfig)
        values = {name: getattr(self, name) for name in known}
        check(known, values, allow_none=False, error=ConfigurationError)

    def summary(self) -> dict[str, Any]:
        """Return the settings as plain values, the instruction by its length alone."""
        prompt = self.decision_maker_prompt
        kind = "default" if prompt == DECISION_MAKER_PROMPT else "own"
        shown = {"decision_maker_prompt": f"{kind}, {len(prompt):,} characters", "logging_enabled": self.enable_logging}
        return asdict(self) | shown


class ConfigurationManager:
    """The settings in force, and how they are changed.

    Args:
        config: To begin with; None for the defaults.
    """

    def __init__(self, config: FrameworkConfig | None = None) -> None:
        self.config = FrameworkConfig() if config is None else config

    @shows(fields_of(FrameworkConfig))
    def update_config(self, **values: Unpack[FrameworkOptions]) -> None:
        """Change settings.

        Args:
            **values: Settings.

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
    """Return a constructor of `FrameworkConfig` that guesses what a misspelt name was to be."""

    @wraps(init)
    def construct(self: FrameworkConfig, *values: Any, **named: Any) -> None:
        _check_names(named)
        init(self, *values, **named)

    return construct


setattr(FrameworkConfig, "__init__", _with_known_names(FrameworkConfig.__init__))  # noqa: B010  # a type checker's


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
