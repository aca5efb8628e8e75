"""What a person has of an image or a document, and what a model is shown of it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pllm_notebook.exceptions import UsageError
from pllm_notebook.media import load_media
from pllm_notebook.messages_types import Media

PNG = b"\x89PNG\r\n\x1a\n" + b"rest"
PDF = b"%PDF-1.7\nrest"


def coded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("content", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (b"GIF89arest", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPrest", "image/webp"),
        (b"\x00\x00\x00\x18ftypheicrest", "image/heic"),
        (PDF, "application/pdf"),
        (b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0rest", "image/bmp"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(tmp_path: Path, content: bytes, mime: str) -> None:
    path = tmp_path / "named.jpg"
    path.write_bytes(content)

    made = load_media(path)

    assert (made.mime, made.data) == (mime, coded(content))
    assert load_media(str(path)) == made
    assert load_media(f"file://{path}") == made


def test_a_documents_name_goes_along_and_an_images_does_not(tmp_path: Path) -> None:
    for name, content in (("a.pdf", PDF), ("b.png", PNG)):
        (tmp_path / name).write_bytes(content)

    assert load_media(tmp_path / "a.pdf").name == "a.pdf"
    assert load_media(tmp_path / "b.png").name == ""


@pytest.mark.parametrize("source", [PNG, bytearray(PNG), memoryview(PNG), f"data:image/jpeg;base64,{coded(PNG)}"])
def test_bytes_and_data_urls_are_files_too(source: Any) -> None:
    assert load_media(source) == Media("image/png", data=coded(PNG))


@pytest.mark.parametrize(
    ("address", "mime", "name"),
    [
        ("https://example.org/cat.PNG?size=2", "image/png", ""),
        ("https://example.org/report.pdf", "application/pdf", "report.pdf"),
        ("https://example.org/picture", "image/*", ""),
        ("https://example.org/page.html", "image/*", ""),
        ("gs://bucket/cat.jpg", "image/jpeg", ""),
    ],
)
def test_an_address_is_left_to_the_provider(address: str, mime: str, name: str) -> None:
    assert load_media(address) == Media(mime, url=address, name=name)


def test_a_picture_is_written_as_png_or_as_what_it_was_read_from(tmp_path: Path) -> None:
    drawn = Image.new("RGB", (2, 2), "red")
    drawn.save(tmp_path / "a.jpg")

    assert load_media(drawn).mime == "image/png"
    assert load_media(Image.open(tmp_path / "a.jpg")).mime == "image/jpeg"


def test_media_itself_stays_as_it_is() -> None:
    media = Media("image/png", data="AAAA")

    assert load_media(media) is media


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("nowhere.png", r"The file 'nowhere\.png' cannot be read: No such file or directory\. Nothing was sent\."),
        (b"<html>", r"6 bytes begins with b'<html>', which is not a known image .*\. Nothing was sent\."),
        (
            b"BM, a text",
            r"10 bytes begins with b'BM, a te', which is not a known image .*\. Nothing was sent\.",
        ),
        (
            b"\xef\xbb\xbf" + PDF,
            r"16 bytes begins with .*, which is not a known image .*\. Nothing was sent\.",
        ),
        (b"", r"0 bytes is empty, which is not a known image .*\. Nothing was sent\."),
        ("data:image/png;base64,?", r"The data URL .* is not base64: .*\. Nothing was sent\."),
        ("data:nothing", r"'data:nothing' begins as a data URL and is not one\. Nothing was sent\."),
        (
            "a\0b.png",
            r"The file .* cannot be read: (lstat: )?embedded null (byte|character in path)\. Nothing was sent\.",
        ),
        (3.5, r"An image is a path, .*, not float\. Nothing was sent\."),
    ],
)
def test_what_is_no_image_is_refused_in_words(source: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"^{told}$"):
        load_media(source)


def test_a_password_in_a_path_is_not_told() -> None:
    with pytest.raises(UsageError) as caught:
        load_media("file:///tmp/sk-live-abcdefghij1234567890.png")

    assert "abcdefghij" not in str(caught.value)
