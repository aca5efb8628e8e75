"""The `pllm` command: what is set up, the cache, batch jobs; request files and datasets, which it sends."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any

import pllm_notebook
from pllm_notebook.exceptions import BudgetError, PllmError, UsageError
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.providers import registry

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The words after `pllm`, None for this process's own.

    Returns:
        The exit code: 0, or 1 for an error of ours, reported on one line of stderr. A wrong word exits with 2. Of
        `process` and `dataset` also 3 where lines or rows failed, 4 where some were not sent, and 130 after an
        interrupt.
    """
    given = _parser().parse_args(argv)
    try:
        code = given.run(given)
    except (PllmError, OSError) as error:
        print(f"pllm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stopped:
        print(f"pllm: {stopped}", file=sys.stderr)
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pllm", description="Ask a language model the same question of every row.")
    parser.add_argument("--version", action="version", version=f"pllm_notebook {pllm_notebook.__version__}")
    words = parser.add_subparsers(required=True, metavar="COMMAND")
    words.add_parser("models", help="providers, and whether their keys are set").set_defaults(run=_models)
    _add_jobs(words.add_parser("jobs", help="the providers' batch jobs"))
    _add_process(words.add_parser("process", help="ask every line of a request file; sends and pays"))
    _add_dataset(
        words.add_parser(
            "dataset",
            help="ask about every row of Parquet files; sends and pays",
            usage="pllm dataset IN [IN …] OUT --schema MODULE:TYPE [options] | status OUT | retry OUT [options]",
            description="Ask about every row of Parquet files, and write part files. The same command resumes.",
        )
    )
    cache = words.add_parser("cache", help="what the cache holds").add_subparsers(required=True, metavar="COMMAND")
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
    clear.add_argument("--yes", action="store_true", help="do not ask")
    clear.set_defaults(run=_clear)
    return parser


def _models(given: argparse.Namespace) -> None:
    # Whether a key is set, and by which name; never the key.
    for provider in registry.hosted():
        names = [name for name in provider.key_variables if os.environ.get(name)]
        key = f"{names[0]} is set" if names else f"no key: set {', '.join(provider.key_variables[:1])}"
        print(f"{provider.name + ':' + provider.cheap_model:<32} {key}")
    print(f"{'local:smollm2':<32} needs no key: a small model in this process")
    print(f"{'sim:openai':<32} needs no key: simulated answers (also sim:anthropic, sim:google)")


# Old names of commands, which stay for one release.
_OLD_COMMANDS = {"send-live": ("hurry",)}


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    jobs.set_defaults(run=_jobs)
    words = jobs.add_subparsers(metavar="COMMAND")
    words.add_parser("list", help="all jobs; sends nothing").set_defaults(run=_jobs)
    for word, summary in (
        ("fetch", "take what has ended into the cache; for cron"),
        ("refresh", "look at the open jobs once"),
        ("cancel", "cancel a job; what is answered is kept, and paid for"),
        ("resubmit", "submit again what of a job has no answer"),
        ("send-live", "send the pending lines of a job live"),
        ("recreate", "create an uncertain job again; it may be paid for twice"),
        ("abandon", "give a stuck job up: its rows may be sent again, and its answers are lost"),
    ):
        parser = words.add_parser(word, help=summary, aliases=_OLD_COMMANDS.get(word, ()))
        parser.set_defaults(run=_command, word=word.replace("-", "_"))
        if word in ("fetch", "refresh"):
            parser.add_argument("id", nargs="?", help="the beginning of a job's id; all open jobs where it is left out")
        else:
            parser.add_argument("id", help="the beginning of a job's id")
        if word in ("resubmit", "send-live"):
            parser.add_argument("--yes", action="store_true", help="do not ask")


def _jobs(given: argparse.Namespace) -> None:
    print(pllm_notebook.jobs())


def _command(given: argparse.Namespace) -> None:
    also = {"confirm": not given.yes} if "yes" in given else {}
    done = getattr(pllm_notebook.jobs(), given.word)(given.id, **also)
    print(done)
    if given.word in ("fetch", "refresh"):
        unreached = done.unreached
        if unreached:
            raise PllmError(
                f"{counted(unreached, 'open job')} cannot be reached from here: the table's messages say why."
            )


def _add_process(process: argparse.ArgumentParser) -> None:
    add = process.add_argument
    add("requests", help="JSON lines: OpenAI's, Anthropic's or Google's batch lines, or bare bodies, in any mix")
    add("results", nargs="?", help="resumed if it exists; default: a new file beside the requests")
    add("--model", help="for lines that name none, such as openai:gpt-6-luna")
    add("--client", help="openai, anthropic, google, sim:openai: for lines whose model names no provider")
    add("--url", help="endpoint of a server of the OpenAI format, in place of the client")
    add("--rpm", type=float, metavar="N", help="at most so many requests a minute")
    add("--tpm", type=float, metavar="N", help="at most so many tokens a minute")
    add("--max-attempts", type=int, default=5, metavar="N", help="times that a line is sent before it fails")
    add("--max-cost-usd", type=float, metavar="USD", help="send nothing that could cost more in all")
    add("--cache", choices=("use", "refresh", "only", "off"), help="what is known is not sent again, unless refreshed")
    add("--cache-dir", metavar="DIR", help="where answers are kept")
    add("--retry-errors", action="store_true", help="ask lines again that have an error in the results")
    add("--quiet", action="store_true", help="show no progress")
    process.set_defaults(run=_process)


def _process(given: argparse.Namespace) -> int:
    config = pllm_notebook.OAIApiFromFileConfig(
        requests_filepath=given.requests,
        save_filepath=given.results,
        model=given.model,
        client=given.client,
        request_url=given.url,
        max_requests_per_minute=given.rpm,
        max_tokens_per_minute=given.tpm,
        max_attempts=given.max_attempts,
        max_cost_usd=given.max_cost_usd,
        cache=given.cache,
        cache_dir=given.cache_dir,
        retry_errors=given.retry_errors,
        progress=not given.quiet,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* lines? (was|were) not sent")  # the line below says it
        status = pllm_notebook.process_api_requests_from_file_sync(config)
    print(status)
    if not status.complete:
        return 4
    return 3 if status.failed else 0


def _add_dataset(dataset: argparse.ArgumentParser) -> None:
    add = dataset.add_argument
    add("source", nargs="+", metavar="IN", help="Parquet files, directories or patterns; `status`; or `retry`")
    add("out", metavar="OUT", help="directory of the part files")
    add("--schema", metavar="MODULE:TYPE", help="type of the answers, also from the working directory; or a .json file")
    prompt = dataset.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="text with {column} where a row's values go")
    prompt.add_argument("--prompt-file", metavar="FILE", help="a file with the prompt")
    add("--model", help="such as openai:gpt-6-luna")
    add("--mode", choices=("async", "sync", "batch"), help="batch: as the provider's batch jobs")
    add("--rows", type=int, metavar="N", help="rows of a part at most")
    add("--max-cost-usd", "--max-cost", type=float, metavar="USD", help="send nothing that could cost more in all")
    add("--concurrency", type=int, metavar="N", help="at most so many calls on the wire")
    add("--cache", choices=("use", "refresh", "only", "off"), help="what is known is not sent again, unless refreshed")
    add("--cache-dir", metavar="DIR", help="where answers are kept")
    add("--kinds", metavar="KIND,…", help="of `retry`: kinds of failure; default: those that can pass")
    add("--quiet", action="store_true", help="show no progress")
    dataset.set_defaults(run=_dataset)


def _dataset(given: argparse.Namespace) -> int:
    sys.path.insert(0, os.getcwd())  # the type's module may be there, as for `python -m`
    try:
        return _run_dataset(given)
    finally:
        sys.path.remove(os.getcwd())


def _run_dataset(given: argparse.Namespace) -> int:
    if given.cache_dir is not None:
        pllm_notebook.configure(cache_dir=given.cache_dir)
    word = given.source[0] if len(given.source) == 1 else ""
    if word == "status":
        there = pllm_notebook.open_dataset(given.out).progress()
        print(there)
        return 0 if there.is_complete else 4
    names = ("model", "mode", "max_cost_usd", "concurrency", "cache")
    options = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    options["progress"] = not given.quiet
    kind = None if given.schema is None else _type_of(given.schema)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* rows failed")  # the line below says it
        try:
            if word == "retry":
                kinds = None if given.kinds is None else given.kinds.split(",")
                also = {} if kind is None else {"response_format": kind}
                done = pllm_notebook.open_dataset(given.out).retry(kinds, **also, **options)
            else:
                done = _parse_dataset(given, kind, options)
        except BudgetError as error:
            print(f"pllm: {error}", file=sys.stderr)
            return 4
    cost = "unknown cost" if done.cost is None else format_usd(done.cost)
    progress = done.progress()
    print(f"{progress}. Now {counted(done.written, 'part')}, {counted(done.rows, 'row')}, {cost}.")
    return 3 if progress.failed else 0


def _parse_dataset(given: argparse.Namespace, kind: Any, options: dict[str, Any]) -> Any:
    if kind is None:
        raise UsageError("--schema MODULE:TYPE says what the answers are. Nothing was sent.")
    prompt = given.prompt
    if given.prompt_file is not None:
        with open(given.prompt_file, encoding="utf-8") as file:
            prompt = file.read()
    if given.rows is not None:
        options = options | {"rows": given.rows}
    return pllm_notebook.parse_dataset(given.source, given.out, kind, prompt, **options)


def _type_of(text: str) -> Any:
    """Return the type that `module:name` names, or the JSON schema of a file."""
    if text.endswith(".json"):
        with open(text, encoding="utf-8") as file:
            return json.load(file)
    module, _, name = text.partition(":")
    if not name:
        raise UsageError(f"--schema is MODULE:TYPE, such as reviews:Review, or a .json file, not {text!r}.")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--schema {text}: {error}. Nothing was sent.") from None


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


def _confirm_clearing() -> None:
    held = pllm_notebook.cache.info()
    if not held.entries:
        return
    question = f"Delete all {held.entries:,} answers of {held.directory}? Asking for them again pays again."
    if not sys.stdin.isatty():
        raise PllmError(
            f"{question} There is no interactive input to confirm it: --yes deletes them unasked. Nothing was deleted."
        )
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise PllmError("Not confirmed. Nothing was deleted.")


def _clear(given: argparse.Namespace) -> None:
    age = None if given.older_than is None else timedelta(days=given.older_than)
    if given.model is None and age is None and not given.yes:
        _confirm_clearing()
    print(f"{pllm_notebook.cache.clear(given.model, age):,} answers were deleted.")
