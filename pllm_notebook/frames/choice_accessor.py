"""The methods of `.llm` that choose how to ask: which prompt, model and effort, by labelled rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from pllm_notebook.execution import Steps, awaiting, blocking
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.accessor_results import AgreementT, ColumnT, FrameT
from pllm_notebook.frames.response_format import NOT_GIVEN
from pllm_notebook.lab_registry import lab
from pllm_notebook.options import ImproveOptions, Options, RaceOptions, taken_by
from pllm_notebook.signatures import shows

__all__ = ["ChoiceAccessor"]


class ChoiceAccessor(LLMAccessor[FrameT, ColumnT, AgreementT]):
    """`.llm` of a whole frame whose rows have labels, in part."""

    @shows(taken_by(Options, "race"))
    def race(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | Mapping[str, Any] | None = None,
        *,
        models: Sequence[str] | None = None,
        effort: Sequence[str | None] | None = None,
        against: Any,
        field: str | None = None,
        rule: Literal["halving", "proof"] = "halving",
        **options: Unpack[RaceOptions],
    ) -> Any:
        """Find which prompt, model and effort answers the labelled rows best, for a part of what asking all would cost.

            race = df.llm.race(Review, {"short": "{text}", "long": "Read: {text}"}, against="stars", max_cost_usd=5)

        Every combination of prompt, model and effort is an arm. All arms are asked about the same rows, in an order
        that a hash of their content gives; then arms leave, and the others are asked about more rows. Equal rows are
        one observation. A row that failed is wrong. What is paid for is in the cache: the full run sends nothing for
        these rows, and the same call again goes on where an interrupt or the ceiling ended it. `max_cost_usd` is the
        ceiling of the whole race.

        Args:
            response_format: As for `parse`.
            prompt: As for `parse`; or several by name, each text, None, or a mapping of what differs (`prompt`,
                `response_format`, and options of `parse` such as `system`).
            models: Models by name; None for `model=`, or the configured one.
            effort: Values of `effort`, None among them for the model's default; None for `effort` as it is.
            against: Known labels: a column of this frame, a Series, or "labels" for those of the cache directory. They
                are not sent; without a prompt, all other columns are.
            field: That the labels are of, without a prefix. None for the only one, or the one with their name.
            rule: "halving": after each round the less accurate half leaves. "proof": only arms that are proven worse
                leave (95 %), which asks about twice as much, and lets more be said.
            **options: See `options.Options`; for all arms.

        Returns:
            A `Race`: shown, it has the arms with accuracy, interval, and price and time of the full run; `.table` is
            that as a frame, `.plot()` a picture, `.gap` the most by which another arm may be better (95 %), and
            `df.llm.parse(**race.best())` asks all rows in the best way.

        Raises:
            UsageError: For fewer than two arms, or a call that cannot be carried out as written. Nothing was sent.
            PllmError: When the providers refuse all arms.
            KeyboardInterrupt: After an interrupt; what finished is kept, and the same call goes on.
        """
        return blocking(self._race(response_format, prompt, models, effort, against, field, rule, options))

    @shows(taken_by(Options, "race"), as_for=race)
    async def arace(
        self,
        response_format: Any = NOT_GIVEN,
        prompt: str | Mapping[str, Any] | None = None,
        *,
        models: Sequence[str] | None = None,
        effort: Sequence[str | None] | None = None,
        against: Any,
        field: str | None = None,
        rule: Literal["halving", "proof"] = "halving",
        **options: Unpack[RaceOptions],
    ) -> Any:
        """Run `race` and await its result. Cancelling stops it; what finished is kept."""
        return await awaiting(self._race(response_format, prompt, models, effort, against, field, rule, options))

    @shows(taken_by(Options, "improve"))
    def improve(
        self,
        response_format: Any = None,
        *,
        against: Any,
        field: str | None = None,
        proposer: str | None = None,
        proposals: int = 12,
        seed: int = 0,
        **options: Unpack[ImproveOptions],
    ) -> Any:
        """Search for a better prompt than that of the run that made this frame, by labelled rows. Needs gepa.

            improved = out.llm.improve(against="labels", max_cost_usd=5)

        A model sees rows with wrong answers, and proposes another text; which of the proposals is best is decided by
        other rows, and its gain measured once, on rows of neither. Roles are fixed by a hash of a row's text (40, 30
        and 30 %), near-duplicates together. Without a prompt, what is rewritten is the instruction (`system`). Every
        call is cached: the same call again sends nothing, and goes on where an interrupt or the ceiling ended it.
        `max_cost_usd` is the ceiling of the whole search, of which the test's part is kept back.

        Args:
            response_format: The type that was asked; needed for a run that is no longer in memory.
            against: Known labels: a column of this frame, a Series, or "labels" for those of the cache directory.
            field: That the labels are of, without a prefix. None for the only one, or the one with their name.
            proposer: The model that proposes, preferably a strong one; None for the run's own.
            proposals: Number of them, at most.
            seed: Of the draws of rows that proposals are made from.
            **options: See `options.Options`; instead of the run's own.

        Returns:
            An `Improvement`: `.found`, `.prompt`, `.diff` by words, `.test` with the held-out gain and its interval,
            `.cost_usd`, and `df.llm.parse(**improved.best())`. "No improvement found" is an answer: the prompt stays.

        Raises:
            UsageError: With too few labelled rows, or when the call cannot be carried out as written. Nothing was sent.
            PllmError: When no known run made this frame, or it decided among several answers.
            MissingPackageError: Without gepa.
            KeyboardInterrupt: After an interrupt; what finished is kept, and the same call goes on.
        """
        return blocking(self._improvement(response_format, against, field, proposer, proposals, seed, options))

    @shows(taken_by(Options, "improve"), as_for=improve)
    async def aimprove(
        self,
        response_format: Any = None,
        *,
        against: Any,
        field: str | None = None,
        proposer: str | None = None,
        proposals: int = 12,
        seed: int = 0,
        **options: Unpack[ImproveOptions],
    ) -> Any:
        """Run `improve` and await its result. Cancelling stops it; what finished is kept."""
        return await awaiting(self._improvement(response_format, against, field, proposer, proposals, seed, options))

    def _race(self, *given: Any) -> Steps[Any]:
        steps: Steps[Any] = lab().race_table(self._table(), *given)
        return steps

    def _improvement(self, *given: Any) -> Steps[Any]:
        steps: Steps[Any] = lab().improve_table(self._table(), *given)
        return steps
