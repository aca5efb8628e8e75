"""The `pllm` command: keys, cache, batch jobs, and request files and datasets, which it sends and pays for."""

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
from pllm_notebook.file_errors import file_errors
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.providers import registry

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: The arguments after `pllm`. None for those of this process.

    Returns:
        The exit code: 0; 1 for an error of this package or of a file, reported on stderr; 2 for a group of commands
        without a command, whose help is printed; 130 after an interrupt. `process` and `dataset` also return 3 if lines
        or rows failed, and 4 if some were not sent.

    Raises:
        SystemExit: After `--help` and `--version`, and with code 2 for invalid arguments.
    """
    given = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _print_warning
        try:
            code = given.run(given)
        except (PllmError, OSError) as error:
            print(f"pllm: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt as stopped:
            print(f"pllm: {stopped or 'interrupted'}", file=sys.stderr)
            return 130
    return code or 0


def _print_warning(message: Warning | str, *about: Any, **more: Any) -> None:
    """Print a warning without its source line, which is in this package and does not help the user."""
    print(f"pllm: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pllm",
        description="Ask a language model the same question of every row.",
        epilog="""examples:
  pllm process requests.jsonl results.jsonl --max-cost-usd 5
  pllm cache info

pllm COMMAND --help has a command's options. In a notebook: df.llm.parse(…) and %%pllm.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pllm_notebook {pllm_notebook.__version__}")
    _with_help(parser)
    words = parser.add_subparsers(metavar="COMMAND", title="commands")
    _add_command(words, "models", "providers, and whether their keys are set").set_defaults(run=_models)
    _add_jobs(_add_command(words, "jobs", "the providers' batch jobs"))
    _add_process(
        _add_command(
            words,
            "process",
            "ask every line of a request file; sends and pays",
            "the same command resumes.",
            epilog="Exits with 3 where lines failed, 4 where some were not sent, 130 after an interrupt.",
        )
    )
    _add_dataset(
        _add_command(
            words,
            "dataset",
            "ask about every row of Parquet files; sends and pays",
            "part files are written, and the same command resumes.",
            epilog="Exits with 3 where rows failed, 4 where some were not sent, 130 after an interrupt.",
            usage="pllm dataset IN [IN …] OUT --schema MODULE:TYPE [options] | status OUT | retry OUT [options]",
        )
    )
    _add_cache(_add_command(words, "cache", "what the cache holds", "whatever was paid for is in it."))
    return parser


def _add_command(words: Any, name: str, summary: str, more: str = "", **about: Any) -> argparse.ArgumentParser:
    """Add a command. Its summary in the list of commands is also the beginning of its own help."""
    text = ". ".join(part[:1].upper() + part[1:] for part in (summary, more.rstrip(".")) if part) + "."
    parser: argparse.ArgumentParser = words.add_parser(name, help=summary, description=text, **about)
    return parser


def _with_help(parser: argparse.ArgumentParser) -> None:
    """Print a parser's help and fail with code 2 if no command follows."""

    def show(given: argparse.Namespace) -> int:
        parser.print_help(sys.stderr)
        return 2

    parser.set_defaults(run=show)


def _add_cache(cache: argparse.ArgumentParser) -> None:
    _with_help(cache)
    words = cache.add_subparsers(metavar="COMMAND", title="commands")
    _add_command(words, "info", "count what is kept and what it cost").set_defaults(run=_info)
    _add_command(words, "check", "verify every answer", "exits with 1 where one is damaged.").set_defaults(run=_check)
    export = _add_command(words, "export", "write every answer into one file for another machine")
    export.add_argument("path", help="the file, such as answers.pllm")
    export.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    export.add_argument("--labels", action="store_true", help="with the labels, which hold cells of labelled rows")
    export.set_defaults(run=_export)
    import_ = _add_command(words, "import", "add the answers of an exported file")
    import_.add_argument("path", help="a file that `pllm cache export` or pllm.cache.export wrote")
    import_.set_defaults(run=_import)
    clear = _add_command(words, "clear", "delete answers; asking for them again pays again")
    clear.add_argument(
        "--model", help="only those of this model, such as openai:gpt-6-luna; `pllm cache info` lists them"
    )
    clear.add_argument(
        "--older-than", type=_days, metavar="DAYS", help="only those that came at least so long ago, such as 90 or 0.5"
    )
    clear.add_argument("--yes", action="store_true", help="do not ask")
    clear.set_defaults(run=_clear)


def _days(text: str) -> timedelta:
    try:
        age = timedelta(days=float(text))
    except (ValueError, OverflowError):
        age = timedelta(days=-1)
    if age < timedelta():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, such as 90 or 0.5")
    return age


def _models(given: argparse.Namespace) -> None:
    # Print whether a key is set and the name of its variable, never the key.
    for provider in registry.hosted():
        names = [name for name in provider.key_variables if os.environ.get(name)]
        key = f"{names[0]} is set" if names else f"no key: set {', '.join(provider.key_variables[:1])}"
        print(f"{provider.name + ':' + provider.cheap_model:<32} {key}")
    print(f"{'local:smollm2':<32} needs no key: a small model in this process")
    print(f"{'sim:openai':<32} needs no key: simulated answers (also sim:anthropic, sim:google)")


# Former names of commands, kept for one release.
_OLD_COMMANDS = {"send-live": ("hurry",)}


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    jobs.set_defaults(run=_jobs)
    words = jobs.add_subparsers(metavar="COMMAND", title="commands", description="Without one, all jobs are listed.")
    _add_command(words, "list", "all jobs; sends nothing").set_defaults(run=_jobs)
    for word, summary in (
        ("fetch", "take what has ended into the cache; for cron"),
        ("refresh", "look at the open jobs once"),
        ("cancel", "cancel a job; what is answered is kept, and paid for"),
        ("resubmit", "submit again what of a job has no answer"),
        ("send-live", "send the pending lines of a job live"),
        ("recreate", "create an uncertain job again; it may be paid for twice"),
        ("abandon", "give a stuck job up: its rows may be sent again, and its answers are lost"),
    ):
        parser = _add_command(words, word, summary, aliases=_OLD_COMMANDS.get(word, ()))
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
        warnings.filterwarnings("ignore", ".* lines? (was|were) not sent")  # the line below reports it
        status = pllm_notebook.process_api_requests_from_file_sync(config)
    print(status)
    if not status.complete:
        return 4
    return 3 if status.failed or status.failed_before else 0


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
    sys.path.insert(0, os.getcwd())  # so that the type's module is found there, as with `python -m`
    try:
        return _run_dataset(given)
    finally:
        sys.path.remove(os.getcwd())


def _run_dataset(given: argparse.Namespace) -> int:
    word = given.source[0] if len(given.source) == 1 else ""
    _refuse_unread(given, word)
    if given.cache_dir is not None:
        pllm_notebook.configure(cache_dir=given.cache_dir)
    if word == "status":
        there = pllm_notebook.open_dataset(given.out).progress()
        print(there)
        return 0 if there.is_complete else 4
    names = ("model", "mode", "max_cost_usd", "concurrency", "cache")
    options = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    options["progress"] = not given.quiet
    kind = None if given.schema is None else _type_of(given.schema)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* rows failed")  # the line below reports it
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


_ASKING = ("schema", "prompt", "prompt_file", "model", "mode", "rows", "max_cost_usd", "concurrency", "cache")
_UNREAD = {"status": (*_ASKING, "kinds"), "retry": ("prompt", "prompt_file", "rows")}


def _refuse_unread(given: argparse.Namespace, word: str) -> None:
    """Raise `UsageError` for an option that this form of the command does not read."""
    unread = [name for name in _UNREAD.get(word, ("kinds",)) if getattr(given, name) is not None]
    if unread:
        of = f"`pllm dataset {word}`" if word in _UNREAD else "`pllm dataset` without `retry`"
        raise UsageError(f"{of} does not read --{unread[0].replace('_', '-')}. Leave it out. Nothing was sent.")


def _parse_dataset(given: argparse.Namespace, kind: Any, options: dict[str, Any]) -> Any:
    if kind is None:
        raise UsageError("--schema MODULE:TYPE says what the answers are. Nothing was sent.")
    prompt = given.prompt
    if given.prompt_file is not None:
        prompt = _text_of(given.prompt_file, "a prompt")
    if given.rows is not None:
        options = options | {"rows": given.rows}
    return pllm_notebook.parse_dataset(given.source, given.out, kind, prompt, **options)


def _text_of(path: str, what: str) -> str:
    with file_errors(path, what), open(path, encoding="utf-8") as file:
        try:
            return file.read()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not text in UTF-8 ({error}); {what} is expected. Nothing was sent.") from None


def _type_of(text: str) -> Any:
    """Return the type named by `module:name`, or the JSON schema in a file."""
    if text.endswith(".json"):
        content = _text_of(text, "a JSON schema")
        try:
            return json.loads(content)
        except ValueError as error:
            raise UsageError(f"--schema {text} is not JSON: {error}. Nothing was sent.") from None
    module, _, name = text.partition(":")
    if not (module and name):
        raise UsageError(
            f"--schema is MODULE:TYPE, such as reviews:Review, or a .json file, not {text!r}. Nothing was sent."
        )
    try:
        return attrgetter(name)(importlib.import_module(module))
    except Exception as error:  # importing the module may raise anything
        seen = str(error) if isinstance(error, (ImportError, AttributeError)) else f"{type(error).__name__}: {error}"
        raise UsageError(f"--schema {text}: {seen}. Nothing was sent.") from None


def _info(given: argparse.Namespace) -> None:
    print(pllm_notebook.cache.info())


def _check(given: argparse.Namespace) -> None:
    found = pllm_notebook.cache.check()
    if not found.ok:
        raise PllmError(str(found))
    print(found)


def _export(given: argparse.Namespace) -> None:
    if os.path.isfile(given.path) and not given.overwrite:  # the message names the command's option
        raise UsageError(f"{given.path} exists. Give another name, or --overwrite. Nothing was written.")
    written = pllm_notebook.cache.export(given.path, overwrite=given.overwrite, labels=given.labels)
    print(f"{counted(written, 'answer', 'was')} written to {given.path}.")


def _import(given: argparse.Namespace) -> None:
    print(f"{counted(pllm_notebook.cache.import_(given.path), 'answer', 'was')} added.")


def _confirm_clearing() -> None:
    held = pllm_notebook.cache.info()
    if not held.entries:
        return
    question = f"Delete all {held.entries:,} answers of {held.directory}? Asking for them again pays again."
    if not sys.stdin.isatty():
        raise PllmError(
            f"{question} There is no interactive input to confirm it: --yes deletes them unasked. Nothing was deleted."
        )
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise PllmError("Not confirmed. Nothing was deleted.")


def _clear(given: argparse.Namespace) -> None:
    if given.model is None and given.older_than is None and not given.yes:
        _confirm_clearing()
    print(f"{counted(pllm_notebook.cache.clear(given.model, given.older_than), 'answer', 'was')} deleted.")
