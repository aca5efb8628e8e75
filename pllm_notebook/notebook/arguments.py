"""Parser for the line of `%%pllm`: the data, and all options of a call as `--kebab-case`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from IPython.core.error import UsageError as ShellUsageError
from IPython.core.magic_arguments import MagicArgumentParser

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.options import OptionField, Options, fields_of, plain
from pllm_notebook.settings import current

__all__ = [
    "CHOICES", "OPTION_FLAGS", "SWITCHES", "add_options", "help_text", "parsed", "read", "refuse_unknown",
]  # fmt: skip

OWN = {
    "schema": "the answer's type: any expression that names one, such as Review, list[Item], bool or a JSON schema",
    "out": "variable that the result is bound to; it is not displayed then",
}
# The type can also be given by the keyword of `df.llm.parse`.
ALSO = {"response-format": "schema"}

_OPTIONS = fields_of(Options)
# Switches that also accept a value: `--evidence` and `--evidence=retry`.
SWITCHES = {"--" + each.name.replace("_", "-"): each for each in _OPTIONS.values() if {bool, str} <= set(each.kinds)}
_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
_TYPOGRAPHIC = "“”„‟‘’‚«»"
# A word meant as an option. A single dash and typographic dashes count too.
_OPTION = re.compile(r"(?:-|[\u2010-\u2015\u2212])+[A-Za-z]")
_DASHED = re.compile(r"-(?!-)")


def read(line: str) -> dict[str, Any]:
    """Parse the line into a dictionary of the given options, with the frame's expression as "data".

    Raises:
        UnknownOptionError: If an option is unknown.
        UsageError: If the line cannot be parsed.
    """
    words = [part for word in _split(line) for part in _switch(word)]
    parser = _parser(_OPTIONS)
    given, unknown = parsed(parser, words, "%%pllm")
    if "-h" in unknown:
        return {"help": True}
    # argparse does not recognize a typographic dash and takes the word as the data.
    refuse_unknown([(given.data or "").lstrip("-"), *unknown], OPTION_FLAGS)
    for word in unknown:
        switch = next((flag for flag, choices in CHOICES.items() if word in choices and flag in SWITCHES), None)
        if switch is not None and switch in words:
            raise UsageError(f"Join the value of {switch} to it: {switch}={word}. Nothing was sent.")
        raise UsageError(f"{word!r} is unexpected on the line of %%pllm, after the data. {_advice(word)} "
                         f"Nothing was sent.")  # fmt: skip
    return {name: value for name, value in vars(given).items() if value is not None}


def parsed(parser: argparse.ArgumentParser, words: Sequence[str], magic: str) -> tuple[argparse.Namespace, list[str]]:
    """Return the namespace that argparse reads from *words*, and the unknown words.

    Raises:
        UsageError: If a value is missing or wrong, a switch has a value, or an option is given twice. Nothing was
            sent.
    """
    _check_flags(parser, words, magic)
    try:
        return parser.parse_known_args(words)
    except ShellUsageError as error:
        said = str(error).replace("-value: ", ": ")
    dashed = next((word for word in words if _DASHED.match(word)), None)
    joined = ""
    if "expected one argument" in said and dashed is not None:
        joined = f" Join a value that begins with a dash to its option: {said.split()[1].rstrip(':')}={dashed!r}."
    raise UsageError(f"{magic}: {said}.{joined} Nothing was sent.")


def refuse_unknown(words: Iterable[str], known: Iterable[str]) -> None:
    """Refuse any of the unknown *words* that looks like an option.

    Raises:
        UnknownOptionError: With the closest known option. Nothing was sent.
    """
    for word in words:
        if _OPTION.match(word):
            raise UnknownOptionError(word.partition("=")[0], known)


def _check_flags(parser: argparse.ArgumentParser, words: Iterable[str], magic: str) -> None:
    seen: dict[str, str] = {}
    for word in words:
        flag, joined, value = word.partition("=")
        action = parser._option_string_actions.get(flag)
        if action is None:
            continue
        if joined and action.nargs == 0:
            raise UsageError(f"{magic}: {flag} is a switch, and {value!r} is no value of it: write "
                             f"{' or '.join(action.option_strings)}. Nothing was sent.")  # fmt: skip
        flag = flag.removesuffix("-value")
        if action.dest in seen:
            before = seen[action.dest]
            both = f"{flag} is given twice" if before == flag else f"{before} and {flag} are one option, given twice"
            raise UsageError(f"{both} on the line of {magic}. Keep one of them. Nothing was sent.")
        seen[action.dest] = flag


def _advice(word: str) -> str:
    if word == "\\":
        return "The line cannot be continued on another one: put all options on it."
    if any(quote in word for quote in _TYPOGRAPHIC):
        return "Typographic quotes do not join words: write \" or '."
    return "Put an expression with spaces in quotes or brackets."


def help_text(options: Mapping[str, OptionField] | None = None) -> str:
    """Return the text of `%%pllm --help`: the options, with configured values in place of the defaults."""
    return _parser(options or _OPTIONS, current().options).format_help()


def add_options(
    parser: argparse.ArgumentParser, options: Mapping[str, OptionField], configured: Mapping[str, Any] | None = None
) -> None:
    """Add options with text values to a parser, such as `--max-cost-usd X`. Options not given are None."""
    for each in options.values():
        shown = "" if each.default in (None, "") else f" (default: {each.default})"
        if configured and each.name in configured:
            shown = f" (configured: {configured[each.name]})"
        parser.add_argument(_flag(each.name), **_kind(each), help=(plain(each.text) + shown).replace("%", "%%"))


def _split(line: str) -> list[str]:
    """Split a line at its spaces, except within brackets and quotes, so that an expression is one word.

    Quotes around a word are removed, as in a shell, but a backslash does not escape a quote: `df.head(10)`,
    `df[df.score > 3]`, `--system "Be brief."`, `--schema Literal["a", "b"]`.
    """
    words: list[str] = []
    word: list[str] = []
    depth, quote, begun = 0, "", False
    bare = True  # whether the open quote surrounds the word and is removed
    for char in line:
        if quote:
            if char != quote or not bare:
                word.append(char)
            if char == quote:
                quote = ""
        elif char in _QUOTES:
            bare = depth == 0 and (not word or word[-1] == "=")
            quote, begun = char, True
            if not bare:
                word.append(char)
        elif char.isspace() and depth == 0:
            words += ["".join(word)] if begun else []
            word, begun = [], False
        else:
            depth += (char in _OPENING) - (char in _CLOSING)
            word.append(char)
            begun = True
    if quote or depth > 0:
        missing = f"quote {quote}" if quote else "bracket"
        raise UsageError(f"A {missing} on the line of %%pllm does not end. Nothing was sent.")
    return words + (["".join(word)] if begun else [])


class _Parser(MagicArgumentParser):
    """IPython's parser, with errors in one line and this magic's usage."""

    def format_usage(self) -> str:
        return "usage: %%pllm [DATA] [--schema TYPE] [--out NAME] [--model MODEL] [OPTION ...]\n"

    def format_help(self) -> str:
        return super().format_help().replace("::\n\n  %", "%", 1)


def _parser(options: Mapping[str, OptionField], configured: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    made = _Parser(  # type: ignore[no-untyped-call]
        prog="%pllm",
        usage="%%pllm [DATA] [--schema TYPE] [--out NAME] [--model MODEL] [OPTION ...]",
        description=(
            "Ask a language model; the prompt is the rest of the cell, with {column} where a row's values go.\n"
            "Without DATA, a failure raises and a missing value is sent (--errors raise --na send)."
        ),
        add_help=False,
    )
    made.allow_abbrev = False  # an abbreviation could change its meaning when another option is added
    made.add_argument("data", nargs="?", metavar="DATA", help="a dataframe, series or list: a name or an expression")
    for word, text in OWN.items():
        others = [f"--{other}" for other, meant in ALSO.items() if meant == word]
        made.add_argument(f"--{word}", *others, help=text)
    add_options(made, options, configured)
    for flag, option in SWITCHES.items():
        made.add_argument(f"{flag}-value", dest=option.name, choices=option.choices or None, help=argparse.SUPPRESS)
    made.add_argument("--help", action="store_true", default=None, help="show this")
    return made


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _switch(word: str) -> tuple[str, ...]:
    """Return the parser's words for one word. A switch takes a value only with `=`, because data may follow it."""
    flag, joined, value = word.partition("=")
    # With an empty value the word is unchanged, and is refused later.
    return (f"{flag}-value", value) if joined and value and flag in SWITCHES else (word,)


def _kind(option: OptionField) -> dict[str, Any]:
    """Return the argparse settings for the value of an option."""
    kinds = option.kinds
    if option.choices and not kinds:
        return {"choices": option.choices}
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    if option.is_list:
        return {"type": _names, "metavar": "A,B"}
    if float in kinds:
        return {"type": float, "metavar": "X"}
    return {"type": int, "metavar": "N"} if int in kinds and str not in kinds else {"metavar": "TEXT"}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _words() -> tuple[str, ...]:
    words = [f"--{word}" for word in (*OWN, *ALSO)]
    for option in _OPTIONS.values():
        words.append(_flag(option.name))
        if bool in option.kinds:
            words.append(_flag(f"no_{option.name}"))
    return (*words, "--help")


OPTION_FLAGS = _words()
"""All option flags of the line."""

CHOICES = {_flag(option.name): option.choices for option in _OPTIONS.values() if option.choices}
"""Allowed values, by flag, of the options with a fixed set of values."""
