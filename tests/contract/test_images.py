"""Images in columns: what each provider is shown, and what a bad cell costs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel

from pllm_notebook.exceptions import UnknownColumnError, UsageError
from pllm_notebook.frames.item_lists import submit_list
from pllm_notebook.sim import SimRequest, Simulator
from tests.contract.sides import Side


class Seen(BaseModel):
    """How much there was to see."""

    shown: int


def png(color: str = "red") -> bytes:
    """An image of its own colour."""
    content = io.BytesIO()
    Image.new("RGB", (2, 2), color).save(content, format="PNG")
    return content.getvalue()


def counted(request: SimRequest) -> Any:
    return {"shown": request.media}


@pytest.fixture(autouse=True)
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the notebook is: the files that cells name are here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    """One row for each way of having an image."""
    path = tmp_path / "a.png"
    path.write_bytes(png("blue"))
    cells = [str(path), path, png(), Image.new("RGB", (2, 2)), [str(path), png()], None]
    return pd.DataFrame({"id": range(6), "photo": cells}, index=list("abcdef"))


def test_a_row_shows_what_stands_in_its_cell(side: Side, sim: Simulator, photos: pd.DataFrame) -> None:
    sim.set(answers=counted)

    out = photos.llm.parse(Seen, "What is on photo {id}?", images="photo", model=side.model)

    assert out["shown"].tolist()[:5] == [1, 1, 1, 1, 2]
    assert out.llm.status.tolist() == ["ok"] * 5 + ["skipped"]
    assert (
        photos.llm.parse(Seen, "What is on photo {id}?", images=["photo"], model=side.model).llm.status.tolist()[:5]
        == ["cached"] * 5
    )


def test_a_document_is_shown_by_its_path(hosted: Side, sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    sim.set(answers=counted)

    out = pd.DataFrame({"file": [tmp_path / "a.pdf"]}).llm.parse(Seen, "Read it.", images="file", model=hosted.model)

    assert out["shown"].tolist() == [1]


def test_a_series_of_images_needs_neither_prompt_nor_data(side: Side, sim: Simulator) -> None:
    sim.set(answers=counted)

    out = pd.Series([png("red"), png("blue")], name="photo").llm.parse(Seen, images="value", model=side.model)

    assert out["shown"].tolist() == [1, 1]
    assert sim.stats().requests == 2


def test_other_columns_are_data_and_images_are_not(luna: str, sim: Simulator, photos: pd.DataFrame) -> None:
    prompts: list[str] = []

    def answers(request: SimRequest) -> Any:
        prompts.append(request.prompt)
        return counted(request)

    sim.set(answers=answers)

    photos.iloc[:1].llm.parse(Seen, images="photo", model=luna)

    assert prompts == ['{"id":0}']


def test_the_items_of_a_list_may_be_images(luna: str, sim: Simulator) -> None:
    sim.set(answers=counted)

    bare = submit_list([png("red"), png("blue"), None], Seen, "Look.", images="value", model=luna).result()
    mapped = submit_list([{"of": "x", "photo": png()}], Seen, "Is it {of}?", images="photo", model=luna).result()

    assert bare == [Seen(shown=1), Seen(shown=1), None]
    assert mapped == [Seen(shown=1)]


def test_a_bad_cell_fails_its_row_alone(luna: str, sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_text("<html>")
    frame = pd.DataFrame({"photo": [png(), str(tmp_path / "gone.png"), tmp_path / "page.png"]})
    sim.set(answers=counted)

    with pytest.warns(UserWarning, match="2 of 3 rows failed"):
        out = frame.llm.parse(Seen, "Look.", images="photo", model=luna)

    errors = out.llm.errors
    assert errors["kind"].tolist() == ["input", "input"]
    assert errors["position"].tolist() == [1, 2]
    assert errors["message"].iloc[0].startswith("Column 'photo': The file ")
    assert errors["message"].iloc[0].endswith("No such file or directory. Nothing was sent for this row.")
    assert sim.stats().requests == 1


def test_a_cell_that_names_a_file_elsewhere_fails_its_row_alone(
    luna: str, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "private.png").write_bytes(png("blue"))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.png").write_bytes(png("red"))
    monkeypatch.chdir(tmp_path / "work")
    frame = pd.DataFrame({"photo": ["mine.png", "../private.png", "/dev/zero", tmp_path / "private.png"]})
    sim.set(answers=counted)

    with pytest.warns(UserWarning, match="3 of 4 rows failed"):
        out = frame.llm.parse(Seen, "Look.", images="photo", model=luna)

    assert out.llm.status.tolist() == ["ok", "failed", "failed", "failed"]
    assert out.llm.errors["message"].iloc[0].startswith("Column 'photo': The file '../private.png' cannot be read: it ")
    assert sim.stats().requests == 1
    with pytest.warns(UserWarning, match="1 of 4 rows failed"):
        out = frame.llm.parse(Seen, "Look.", images="photo", model=luna, images_from=tmp_path)
    assert out.llm.status.tolist() == ["cached", "ok", "failed", "ok"]


def test_a_row_without_an_image_is_sent_as_text_where_asked_for(luna: str, sim: Simulator) -> None:
    frame = pd.DataFrame({"n": [1, 2], "photo": pd.Series([None, []], dtype="object")})
    sim.set(answers=counted)

    sent = frame.llm.parse(Seen, "Look at {n}.", images="photo", na="send", model=luna)
    skipped = frame.llm.parse(Seen, "Look at {n}.", images="photo", model=luna)

    assert sent["shown"].tolist() == [0, 0]
    assert skipped.llm.status.tolist() == ["skipped", "skipped"]
    with pytest.raises(UsageError, match="Column 'photo' has 2 rows without an image, the first in row 0"):
        frame.llm.parse(Seen, "Look at {n}.", images="photo", na="raise", model=luna)


def test_a_row_shows_all_columns_of_images_in_their_order_or_is_skipped(luna: str, sim: Simulator) -> None:
    frame = pd.DataFrame({"front": [png("red"), png("red")], "back": [png("blue"), None]})
    sim.set(answers=counted)

    out = frame.llm.parse(Seen, "Compare.", images=["front", "back"], model=luna)

    assert out.llm.status.tolist() == ["ok", "skipped"]
    assert out["shown"].iloc[0] == 2


def test_a_file_that_goes_away_between_plan_and_sending_fails_its_row_alone(
    luna: str, sim: Simulator, tmp_path: Path
) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).write_bytes(png(color="red" if name == "first" else "blue" if name == "second" else "green"))

    def answers(request: SimRequest) -> Any:
        (tmp_path / "second").unlink()
        (tmp_path / "third").write_bytes(png("white"))
        return counted(request)

    sim.set(answers=answers)
    frame = pd.DataFrame({"photo": [tmp_path / name for name in ("first", "second", "third")]})

    with pytest.warns(UserWarning, match="2 of 3 rows failed"):
        out = frame.llm.parse(Seen, "Look.", images="photo", model=luna, concurrency=1)

    assert out["shown"].tolist()[0] == 1
    assert [message.partition("'")[0] or message for message in out.llm.errors["message"]] == [
        "Column ",
        "A file that the prompt shows has changed since the run began. Nothing was sent for this row.",
    ]


def test_an_image_weighs_what_it_can_cost_and_not_its_bytes(luna: str, sim: Simulator) -> None:
    noise = io.BytesIO()
    Image.effect_noise((800, 800), 100).save(noise, format="PNG")
    assert len(noise.getvalue()) > 300_000
    frame = pd.DataFrame({"photo": [noise.getvalue()]})

    told = frame.llm.estimate(Seen, "Look.", images="photo", model=luna)

    assert 2_000 < told.input_tokens < 5_000


def test_what_explains_a_row_shows_no_file(luna: str, sim: Simulator) -> None:
    noise = io.BytesIO()
    Image.effect_noise((200, 200), 100).save(noise, format="PNG")
    sim.set(answers=counted)

    out = pd.DataFrame({"photo": [noise.getvalue()]}).llm.parse(Seen, "Look.", images="photo", model=luna)

    explained = out.llm.explain(0)
    assert explained.prompt == "[image/png]\nLook."
    assert len(repr(explained)) < 5_000


@pytest.mark.parametrize(
    ("prompt", "options", "error", "told"),
    [
        ("Look at {photo}.", {}, UsageError, "The prompt names the column 'photo', which images= already sends"),
        ("Look.", {"images": "foto"}, UnknownColumnError, "images= names column 'foto', .* Did you mean 'photo'?"),
        ("Look.", {"pack": 4}, UsageError, r"Rows that share a call \(pack=\) cannot each show images"),
    ],
)
def test_images_that_cannot_be_shown_are_refused_before_anything_is_sent(
    luna: str, sim: Simulator, prompt: str, options: dict[str, Any], error: type[Exception], told: str
) -> None:
    frame = pd.DataFrame({"photo": [png()]})

    with pytest.raises(error, match=rf"{told}.*Nothing was sent\.$"):
        frame.llm.parse(Seen, prompt, **({"images": "photo", "model": luna} | options))

    assert sim.stats().requests == 0
