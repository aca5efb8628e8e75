"""Whether a question can be given probabilities as the options ask for them, before anything is sent."""

from __future__ import annotations

from pllm_notebook.exceptions import UsageError
from pllm_notebook.options import Options
from pllm_notebook.schema import OutputType

__all__ = ["check_probabilities"]


def check_probabilities(options: Options, output: OutputType | None) -> None:
    """Check `probabilities` and `confidence_column` against the type and the other options.

    Raises:
        UsageError: When they cannot be had as written. Nothing was sent.
    """
    how = options.probabilities
    if not how:
        if options.decision_model is not None:
            raise UsageError("decision_model= is for probabilities='decisions'. Nothing was sent.")
        if options.confidence_column is not None:
            way = "'samples'" if options.samples > 1 else "True, or 'samples' with samples=5, for example"
            raise UsageError(f"confidence_column= needs probabilities=: {way}. Nothing was sent.")
        if options.calibration is not None and options.samples < 2:
            raise UsageError(
                "calibration= is what a confidence is read through, and without probabilities= there is none: "
                "probabilities=True, or 'samples' with samples=5, for example. Nothing was sent."
            )
        return
    if output is None or not output.choices:
        asked = "plain text" if output is None else output.name
        raise UsageError(
            f"probabilities= needs a field whose values are known (Literal, Enum, bool, an int with ge and le, or a "
            f"list of these), and {asked} has none. Nothing was sent."
        )
    if how == "samples":
        if options.samples < 2:
            raise UsageError(
                "probabilities='samples' is the share of several answers: give samples=5, for example, which is five "
                "calls a row. Nothing was sent."
            )
        return
    if how == "decisions":
        _check_alone(options)
        return
    if options.decision_model is not None:
        raise UsageError("decision_model= is for probabilities='decisions'. Nothing was sent.")
    for name, value in (("samples", options.samples > 1), ("models", len(options.models or ()) > 1),
                        ("pack", (options.pack or 1) > 1)):  # fmt: skip
        if value:
            raise UsageError(
                f"Token probabilities (probabilities={how!r}) are of one answer a row, from one model, in a call of "
                f"its own. Leave {name}= out, or give probabilities='samples' with samples=. Nothing was sent."
            )


def _check_alone(options: Options) -> None:
    """Refuse what cannot go with decisions, which are one answer a row."""
    reasons = {
        "samples": (options.samples > 1, "asks a decision endpoint, which answers the same each time"),
        "models": (len(options.models or ()) > 1, "asks one endpoint"),
        "pack": ((options.pack or 1) > 1, "judges one row a call: other rows beside it would change its answers"),
        "decide": (options.decide is not None, "has one answer a row"),
        "judge": (options.judge is not None, "has one answer a row"),
        "agreement_column": (options.agreement_column is not None, "has one answer a row"),
        "examples": (options.examples is not None, "judges one input, and takes no turns before it"),
        "tools": (bool(options.tools), "offers no tools"),
    }
    for name, (given, reason) in reasons.items():
        if given:
            raise UsageError(f"probabilities='decisions' {reason}. Leave {name}= out. Nothing was sent.")
