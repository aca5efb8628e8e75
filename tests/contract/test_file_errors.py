"""A path that cannot be used is one error of ours wherever it is given: what was seen, what to do, nothing was sent."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.cli import main
from pllm_notebook.exceptions import FileError, UsageError
from pllm_notebook.file_errors import file_errors

READERS: dict[str, tuple[Callable[[Any], object], str]] = {
    "import_results": (pllm.import_results, "a file of batch results is expected"),
    "cache.import_": (pllm.cache.import_, "an export of pllm_notebook is expected"),
    "parse_results_file": (pllm.parse_results_file, "a results file is expected"),
    "request file": (
        lambda path: pllm.process_api_requests_from_file_sync(pllm.OAIApiFromFileConfig(requests_filepath=path)),
        "a request file is expected",
    ),
}
WRITERS: dict[str, Callable[[Any], object]] = {
    "cache.export": pllm.cache.export,
    "prepare_requests_file": lambda path: pllm.prepare_requests_file([pllm.LLMPromptContext(new_message="a")], path),
}
SAVES = {
    **WRITERS,
    "save_filepath": lambda path: pllm.process_api_requests_from_file_sync(
        pllm.OAIApiFromFileConfig(
            requests_filepath=os.fspath(Path(path).parents[1] / "asked.jsonl"), save_filepath=path
        )
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pllm.configure(model="sim:openai")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked.jsonl").write_text('{"model": "sim:openai", "messages": [{"role": "user", "content": "a"}]}\n')
    return tmp_path


@pytest.mark.parametrize(("read", "expected"), READERS.values(), ids=READERS)
def test_a_missing_file_is_named_with_its_directory_and_a_guess(
    read: Callable[[Any], object], expected: str, here: Path
) -> None:
    (here / "results.jsonl").touch()

    with pytest.raises(FileError) as raised:
        read("result.jsonl")

    assert str(raised.value).startswith(
        f"There is no file 'result.jsonl' in {os.fspath(here)!r}; {expected}. Did you mean 'results.jsonl'? Nothing "
    )
    assert raised.value.errno is not None
    assert isinstance(raised.value, (UsageError, OSError))


@pytest.mark.parametrize(("read", "expected"), READERS.values(), ids=READERS)
def test_a_directory_in_place_of_a_file_is_said_to_be_one(read: Callable[[Any], object], expected: str) -> None:
    os.mkdir("folder")

    with pytest.raises(UsageError, match=r"is a directory.*(Give|Pass) the path of a file\. Nothing was "):
        read("folder")


@pytest.mark.parametrize(("writing", "act"), [(False, "reading"), (True, "writing")])
def test_a_file_without_permission_says_what_is_not_permitted(writing: bool, act: str, here: Path) -> None:
    path = os.fspath(here / "asked.jsonl")

    with (
        pytest.raises(FileError) as raised,
        file_errors(path, "a results file", "Nothing was sent.", writing=writing),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    assert str(raised.value) == (
        f"{path!r} does not permit {act}. Change its permissions, or give another path. Nothing was sent."
    )
    assert (raised.value.errno, raised.value.path) == (errno.EACCES, path)


@pytest.mark.parametrize("write", SAVES.values(), ids=SAVES)
def test_a_file_is_not_written_where_there_is_no_directory(write: Callable[[Any], object], here: Path) -> None:
    path = here / "missing" / "file.jsonl"

    with pytest.raises(FileError, match=r"There is no directory '.*missing' for .* make the directory first\. Nothing"):
        write(path)

    assert not path.parent.exists()


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_an_existing_file_is_not_overwritten_unasked(write: Callable[[Any], object], here: Path) -> None:
    (here / "kept.jsonl").write_text("kept")

    with pytest.raises(
        UsageError, match=r"kept\.jsonl exists\. (Give|Use) another name, or overwrite=True\. Nothing was"
    ):
        write("kept.jsonl")

    assert (here / "kept.jsonl").read_text() == "kept"


@pytest.mark.parametrize("path", [5, b"bytes", ""])
def test_what_is_no_path_is_refused_with_what_it_was(path: object) -> None:
    for use in [*[read for read, _ in READERS.values()], *WRITERS.values()]:
        with pytest.raises(UsageError, match=rf"is expected, not {path!r}\. Nothing was "):
            use(path)


@pytest.mark.parametrize("command", [["cache", "import"], ["cache", "export"], ["process"]], ids=" ".join)
def test_the_command_says_it_on_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "missing/file.jsonl"]) == 1

    error = capsys.readouterr().err
    assert error.startswith("pllm: There is no directory ")
    assert error.count("\n") == 1
