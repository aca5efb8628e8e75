"""The methods of `.llm` that choose prompt, model and effort with labelled rows."""

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
    """`.llm` of a frame in which some rows have labels."""

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
        """Find the prompt, model and effort that answer the labelled rows best, at a fraction of the full cost.

            race = df.llm.race(Review, {"short": "{text}", "long": "Read: {text}"}, against="stars", max_cost_usd=5)

        Every combination of prompt, model and effort is an arm. All arms answer the same rows, in the order of a hash
        of their content. After each round some arms are dropped, and the others answer more rows. Equal rows are one
        observation, and failed rows count as wrong. Paid answers are in the cache: the full run sends nothing for these
        rows, and repeating the call continues where an interrupt or the ceiling ended it. `max_cost_usd` is the ceiling
        of the whole race.

        Args:
            response_format: As for `parse`.
            prompt: As for `parse`, or several by name. Each is text, None, or a mapping of the differences (`prompt`,
                `response_format`, and options of `parse` such as `system`).
            models: Models by name. None for `model=`, or the configured one.
            effort: Values of `effort`, with None in the list for the model's default. None for the usual `effort`.
            against: Known labels: a column of this frame, a Series, or "labels" for those of the cache directory. They
                are not sent; without a prompt, all other columns are.
            field: The field that the labels are for, without a prefix. None for the only one, or the one named like
                the labels.
            rule: "halving" drops the less accurate half after each round. "proof" drops only arms that are proven worse
                (95 %), which takes about twice as many calls but proves more.
            **options: Options for all arms (see `options.Options`).

        Returns:
            A `Race`. Its display has the arms with accuracy, interval, and price and duration of the full run. `.table`
            has the same as a frame, `.plot()` plots it, `.gap` is the most by which another arm may be better (95 %),
            and `df.llm.parse(**race.best())` runs the best arm on all rows.

        Raises:
            UsageError: For fewer than two arms, or invalid arguments. Nothing was sent.
            PllmError: If the providers refuse all arms.
            KeyboardInterrupt: After an interrupt. Finished answers are kept, and the same call resumes.
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
        """Run `race` and await its result. Cancelling stops it; finished answers are kept."""
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
        """Search for a better prompt than the one of this frame's run, using labelled rows. Needs gepa.

            improved = out.llm.improve(against="labels", max_cost_usd=5)

        A model sees rows with wrong answers and proposes another text. Other rows decide which proposal is best, and
        its gain is measured once, on held-out rows. The roles of rows are fixed by a hash of their text (40, 30 and
        30 %), with near-duplicates together. Without a prompt, the instruction (`system`) is rewritten. Every call is
        cached: repeating the call sends nothing new, and continues where an interrupt or the ceiling ended it.
        `max_cost_usd` is the ceiling of the whole search, part of which is reserved for the test.

        Args:
            response_format: The type of the run. Needed for a run that is no longer in memory.
            against: Known labels: a column of this frame, a Series, or "labels" for those of the cache directory.
            field: The field that the labels are for, without a prefix. None for the only one, or the one named like
                the labels.
            proposer: The model that proposes, preferably a strong one. None for the run's model.
            proposals: Maximum number of proposals.
            seed: Seed for drawing the rows that proposals are made from.
            **options: Options that replace the run's (see `options.Options`).

        Returns:
            An `Improvement`: `.found`, `.prompt`, `.diff` by words, `.test` with the held-out gain and its interval,
            `.cost_usd`, and `.best()` for `df.llm.parse(**improved.best())`. If no improvement was found, the prompt
            stays as it was.

        Raises:
            UsageError: If there are too few labelled rows, or the arguments are invalid. Nothing was sent.
            PllmError: If no known run made this frame, or it decided among several answers.
            MissingPackageError: If gepa is not installed.
            KeyboardInterrupt: After an interrupt. Finished answers are kept, and the same call resumes.
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
        """Run `improve` and await its result. Cancelling stops it; finished answers are kept."""
        return await awaiting(self._improvement(response_format, against, field, proposer, proposals, seed, options))

    def _race(self, *given: Any) -> Steps[Any]:
        steps: Steps[Any] = lab().race_table(self._table(), *given)
        return steps

    def _improvement(self, *given: Any) -> Steps[Any]:
        steps: Steps[Any] = lab().improve_table(self._table(), *given)
        return steps
