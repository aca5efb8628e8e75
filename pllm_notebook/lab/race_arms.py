"""The arms of a race: every combination of prompt, model and effort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pllm_notebook.exceptions import UsageError

__all__ = ["Arm", "arms_of"]

# Options that a race sets itself. All others are those of `parse`.
_OWN = {
    "mode": "a race goes in rounds, live",
    "errors": "a row that failed is wrong, and does not end the race",
    "explode": "one answer a row is compared with its label",
    "wait": "a race waits for its rounds",
    "cache": "what a race has paid for is in the cache",
}
_NOT_PASSED_ON = ("max_cost_usd", "progress")


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of prompt, model and options.

    Attributes:
        name: Built from the differences between the arms.
        response_format: As for `parse`.
        prompt: As for `parse`.
        prompt_name: Name of the prompt. "" for a single prompt without a name.
        options: Options of `parse`.
    """

    name: str
    response_format: Any
    prompt: str | None
    prompt_name: str
    options: Mapping[str, Any]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of this arm for `parse`, without the race's ceiling and display."""
        kept = {name: value for name, value in self.options.items() if name not in _NOT_PASSED_ON}
        prompt = {} if self.prompt is None else {"prompt": self.prompt}
        return {"response_format": self.response_format, **prompt, **kept}


def arms_of(
    response_format: Any,
    prompts: str | Mapping[str, Any] | None,
    models: str | Sequence[str] | None,
    efforts: str | Sequence[str | None] | None,
    options: Mapping[str, Any],
) -> list[Arm]:
    """Return every combination, by prompt, then model, then effort.

    Args:
        response_format: The type, unless a prompt has its own.
        prompts: One prompt, or several by name. Each is text, None, or a mapping of `prompt`, `response_format` and
            options.
        models: The models. None for the one of the options or settings.
        efforts: The efforts. None for that of the options.
        options: Options of `parse`, for all arms.

    Raises:
        UsageError: If there are fewer than two arms, or an option does not work in a race. Nothing was sent.
    """
    named = prompts if isinstance(prompts, Mapping) else {"": prompts}
    by_model = [{"model": model} for model in _listed("models", models)] or [{}]
    by_effort = [{"effort": effort} for effort in _listed("effort", efforts)] or [{}]
    arms: list[Arm] = []
    for name, prompt in named.items():
        own = dict(prompt) if isinstance(prompt, Mapping) else {"prompt": prompt}
        _check_own(str(name), own, models, efforts)
        for model in by_model:
            for effort in by_effort:
                given = {**options, **model, **effort, **own}
                kind, text = given.pop("response_format", response_format), given.pop("prompt", None)
                for option, why in _OWN.items():
                    if option in given:
                        raise UsageError(f"{option}= is not an option of a race: {why}. Nothing was sent.")
                parts = [str(name)] * (len(named) > 1) + [str(one) for one in model.values() if len(by_model) > 1]
                parts += [f"effort {one}" for one in effort.values() if len(by_effort) > 1]
                arms.append(Arm(" · ".join(parts) or "prompt", kind, text, str(name), given))
    if len(arms) < 2:
        raise UsageError(
            'A race takes two or more arms: several prompts by name, {"A": "…", "B": "…"}, models=[…] or effort=[…]. '
            "Nothing was sent."
        )
    if len({arm.name for arm in arms}) < len(arms):
        raise UsageError(f"Two arms are the same: {[arm.name for arm in arms]}. Nothing was sent.")
    return arms


def _check_own(name: str, own: Mapping[str, Any], models: Any, efforts: Any) -> None:
    """Refuse options in a prompt's mapping that the race sets: they would be ignored, or the arm's name would be wrong.

    Raises:
        UsageError: For such an option. Nothing was sent.
    """
    decided = [
        *_NOT_PASSED_ON,
        *(["model"] if models is not None else []),
        *(["effort"] if efforts is not None else []),
    ]
    for option in decided:
        if option in own:
            taken = {"model": "models=", "effort": "effort="}.get(option, f"{option}=")
            raise UsageError(
                f"The prompt {name!r} says {option}={own[option]!r}, and {taken} of the race is for all arms. Leave "
                f"one of them out. Nothing was sent."
            )


def _listed(option: str, values: str | Sequence[Any] | None) -> list[Any]:
    if values is None or isinstance(values, str):
        return [] if values is None else [values]
    made = list(values)
    if not made:
        raise UsageError(f"{option}= is a list of at least one, or left out, not {values!r}. Nothing was sent.")
    return made
