"""The `pllm` command: what is set up, what the cache holds, and the batch jobs; only of those is anything sent."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import timedelta

import pllm_notebook
from pllm_notebook.exceptions import PllmError
from pllm_notebook.providers.models import CHEAP
from pllm_notebook.providers.registry import KEYS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after `pllm`, None for this process's own.

    Returns:
        The exit code: 0, or 1 for an error of ours, told on one line of stderr. A wrong word exits with 2.
    """
    given = _parser().parse_args(argv)
    try:
        given.run(given)
    except (PllmError, OSError) as error:
        print(f"pllm: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pllm", description="Ask a language model the same question of every row.")
    parser.add_argument("--version", action="version", version=f"pllm_notebook {pllm_notebook.__version__}")
    words = parser.add_subparsers(required=True, metavar="WORD")
    words.add_parser("models", help="providers, and whether their keys are set").set_defaults(run=_models)
    _add_jobs(words.add_parser("jobs", help="the providers' batch jobs"))
    cache = words.add_parser("cache", help="what the cache holds").add_subparsers(required=True, metavar="WORD")
    cache.add_parser("info", help="count what is kept and what it cost").set_defaults(run=_info)
    cache.add_parser("check", help="verify every answer").set_defaults(run=_check)
    export = cache.add_parser("export", help="write every answer into one file for another machine")
    export.add_argument("path")
    export.set_defaults(run=_export)
    import_ = cache.add_parser("import", help="add the answers of an exported file")
    import_.add_argument("path")
    import_.set_defaults(run=_import)
    clear = cache.add_parser("clear", help="delete answers; asking for them again pays again")
    clear.add_argument("--model", help="only those of this model, such as openai:gpt-6-luna")
    clear.add_argument("--older-than", type=float, metavar="DAYS", help="only those that came at least so long ago")
    clear.set_defaults(run=_clear)
    return parser


def _models(given: argparse.Namespace) -> None:
    # Whether a key is set, and by which name; never the key.
    for provider, model in CHEAP.items():
        names = [name for name in KEYS[provider] if os.environ.get(name)]
        key = f"{names[0]} is set" if names else f"no key: set {KEYS[provider][0]}"
        print(f"{provider + ':' + model:<32} {key}")
    print(f"{'local:smollm2':<32} needs no key: a small model in this process")
    print(f"{'sim:openai':<32} needs no key: simulated answers (also sim:anthropic, sim:google)")


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    jobs.set_defaults(run=_jobs)
    words = jobs.add_subparsers(metavar="WORD")
    words.add_parser("list", help="all jobs; sends nothing").set_defaults(run=_jobs)
    for word, told in (
        ("fetch", "take what has ended into the cache; for cron"),
        ("refresh", "look at the open jobs once"),
        ("cancel", "cancel a job; what is answered is kept, and paid for"),
        ("resubmit", "submit again what of a job has no answer"),
        ("hurry", "send live what of a job is pending"),
    ):
        parser = words.add_parser(word, help=told)
        parser.set_defaults(run=_errand, word=word)
        if word in ("fetch", "refresh"):
            parser.add_argument("id", nargs="?", help="the beginning of a job's id; all open jobs where it is left out")
        else:
            parser.add_argument("id", help="the beginning of a job's id")
        if word in ("resubmit", "hurry"):
            parser.add_argument("--yes", action="store_true", help="do not ask")


def _jobs(given: argparse.Namespace) -> None:
    print(pllm_notebook.jobs())


def _errand(given: argparse.Namespace) -> None:
    also = {"confirm": not given.yes} if "yes" in given else {}
    done = getattr(pllm_notebook.jobs(), given.word)(given.id, **also)
    print(done)
    if given.word in ("fetch", "refresh"):
        unreached = done.unreached
        if unreached:
            raise PllmError(f"{unreached:,} open jobs cannot be reached from here; their messages say why.")


def _info(given: argparse.Namespace) -> None:
    print(pllm_notebook.cache.info())


def _check(given: argparse.Namespace) -> None:
    found = pllm_notebook.cache.check()
    if not found.ok:
        raise PllmError(str(found))
    print(found)


def _export(given: argparse.Namespace) -> None:
    print(f"{pllm_notebook.cache.export(given.path):,} answers were written to {given.path}.")


def _import(given: argparse.Namespace) -> None:
    print(f"{pllm_notebook.cache.import_(given.path):,} answers were added.")


def _clear(given: argparse.Namespace) -> None:
    age = None if given.older_than is None else timedelta(days=given.older_than)
    print(f"{pllm_notebook.cache.clear(given.model, age):,} answers were deleted.")
