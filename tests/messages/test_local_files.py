"""Files that a cell may name and no model is ever shown: each is refused before it is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pllm_notebook import settings
from pllm_notebook.exceptions import UsageError
from pllm_notebook.local_files import LARGEST_BYTES, AllowedDirectories
from pllm_notebook.media import load_media
from pllm_notebook.providers.registry import largest_file_for
from pllm_notebook.sessions.prompt_reader import prompt_of

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a notebook, with a private picture beside it."""
    (tmp_path / "private.png").write_bytes(PNG)
    folder = tmp_path / "notebook"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "cat.png").write_bytes(PNG)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the bytes that this process has read through files since the test began."""

    def count() -> int:
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    began = count()
    return lambda: count() - began


def linked_out(folder: Path) -> Path:
    (folder / "link.png").symlink_to("../private.png")
    return folder / "link.png"


def through_a_linked_folder(folder: Path) -> str:
    (folder / "linked").symlink_to("..", target_is_directory=True)
    return "linked/private.png"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png"


def listening(folder: Path) -> str:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")  # a path of its own may be too long for a socket
    return "socket.png"


def sparse(folder: Path) -> Path:
    with (folder / "large.png").open("wb") as file:
        file.write(PNG)
        file.truncate(5 * 2**30)
    return folder / "large.png"


def a_log(folder: Path) -> Path:
    (folder / "app.log").write_text("12:00 got b'%PDF-1.7' from the client\n" * 10_000)
    return folder / "app.log"


def a_text(folder: Path) -> Path:
    (folder / "notes.bmp").write_text("BMW's prices, and other secrets\n" * 10_000)
    return folder / "notes.bmp"


def empty(folder: Path) -> Path:
    (folder / "empty.png").touch()
    return folder / "empty.png"


def looping(folder: Path) -> Path:
    (folder / "loop.png").symlink_to("loop.png")
    return folder / "loop.png"


EVERYWHERE: list[tuple[Any, str]] = [
    (lambda _: "/dev/zero", "it is a device and no file"),
    (lambda _: "/dev/stdin", ""),
    (pipe, "it is a pipe and no file"),
    (listening, "it is a socket and no file"),
    (sparse, r"it has 5,368,709,120 bytes, and the provider takes 50,000,000 at most"),
    (lambda _: "photos", "it is a directory and no file"),
    (lambda _: "/proc/self/environ", "it is empty"),
    (lambda _: "/proc/self/mem", ""),
    (lambda _: "/proc/kmsg", ""),
    (empty, "it is empty"),
    (looping, "Too many levels of symbolic links"),
    (a_log, "which is not a known image"),
    (a_text, "which is not a known image"),
]
OUTSIDE: list[tuple[Any, str]] = [
    (lambda folder: str(folder.parent / "private.png"), "it is not in "),
    (lambda _: "../private.png", "it is not in "),
    (lambda _: "photos/../../private.png", "it is not in "),
    (lambda folder: f"file://{folder.parent}/private.png", "it is not in "),
    (lambda folder: f"file://{folder}/photos/%2e%2e/%2e%2e/private.png", "it is not in "),
    (lambda _: "~/.ssh/id_rsa", ""),
    (lambda _: "/etc/passwd", "it is not in "),
    (linked_out, "it is not in "),
    (through_a_linked_folder, "it is not in "),
]


@pytest.mark.parametrize(
    ("images_from", "made", "told"), [*(("anywhere", *row) for row in EVERYWHERE), *((".", *row) for row in OUTSIDE)]
)
def test_what_data_may_not_name_is_refused_unread(
    notebook: Path, read: Callable[[], int], images_from: str, made: Callable[[Path], Any], told: str
) -> None:
    path, places = made(notebook), AllowedDirectories.of([images_from])
    before = read()

    with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\.$"):
        load_media(path, places)

    assert read() - before < 20_000  # the beginning of a file that may be read, and what Python itself reads


@pytest.mark.parametrize(("made", "told"), EVERYWHERE)
def test_what_is_no_file_is_refused_to_the_callers_own_code_too(
    notebook: Path, made: Callable[[Path], Any], told: str
) -> None:
    path = Path(made(notebook))

    with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\.$"):
        load_media(path)
    if path.name not in ("app.log", "notes.bmp"):  # to a program, a text is a document
        with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\.$"):
            prompt_of([path])


def test_a_file_that_the_callers_own_code_names_may_be_anywhere(notebook: Path) -> None:
    assert load_media(notebook.parent / "private.png").mime == "image/png"
    assert load_media(linked_out(notebook)).mime == "image/png"


@pytest.mark.parametrize("named", ["photos/cat.png", "./photos/../photos/cat.png", "inside.png"])
def test_files_of_the_working_directory_and_below_are_shown(notebook: Path, named: str) -> None:
    (notebook / "inside.png").symlink_to("photos/cat.png")

    assert load_media(named, AllowedDirectories.of(None)).mime == "image/png"


def test_images_from_names_other_places(notebook: Path) -> None:
    private = str(notebook.parent / "private.png")

    assert load_media(private, AllowedDirectories.of([".."])).mime == "image/png"
    assert load_media(private, AllowedDirectories.of(["photos", str(notebook.parent)])).mime == "image/png"
    assert load_media(private, AllowedDirectories.of(["anywhere"])).mime == "image/png"
    with pytest.raises(UsageError, match="images_from= names other places"):
        load_media(private, AllowedDirectories.of(["photos"]))
    # A name that begins alike is another directory.
    (notebook.parent / "notebook-2").mkdir()
    (notebook.parent / "notebook-2" / "a.png").write_bytes(PNG)
    with pytest.raises(UsageError, match="it is not in "):
        load_media("../notebook-2/a.png", AllowedDirectories.of(None))


def test_a_file_of_the_largest_size_is_read_whole_and_a_larger_one_not_at_all(notebook: Path) -> None:
    (notebook / "a.png").write_bytes(PNG + bytes(10_000))

    with pytest.raises(UsageError, match="it has 10,012 bytes, and the provider takes 10,000 at most"):
        load_media("a.png", largest=10_000)
    assert len(load_media("a.png", largest=10_012).data) > 10_012


def test_a_provider_takes_files_up_to_its_own_limit() -> None:
    assert largest_file_for("anthropic:claude-haiku-5-5") == 24_000_000
    assert largest_file_for("openai:gpt-6-luna") == 37_500_000
    assert largest_file_for(None) == largest_file_for("google:gemini-3.8-flash") == LARGEST_BYTES


@pytest.mark.parametrize("value", [3, "", [], [""], ["a", 3]])
def test_images_from_is_a_directory_or_several(value: Any) -> None:
    with pytest.raises(UsageError, match="images_from is a directory, or a list of them"):
        settings.resolve({"images_from": value})


def test_images_from_is_one_directory_or_a_list(tmp_path: Path) -> None:
    assert settings.resolve({"images_from": tmp_path}).images_from == (str(tmp_path),)
    assert settings.resolve({"images_from": [".", tmp_path]}).images_from == (".", str(tmp_path))


def test_a_bitmap_is_known_by_its_header(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.bmp")

    assert load_media(tmp_path / "a.bmp").mime == "image/bmp"
