"""The hook of mkdocs that adds pages to those of docs/.

- CHANGELOG.md, CONTRIBUTING.md, SECURITY.md and the notebooks become pages; links to them lead there. A notebook is
  shown with its outputs if `make gallery` has run it, otherwise as committed.
- The page of commands gets the output of `--help` of each command.
- `llms.txt` lists the pages. Each page is also available as Markdown, beside its HTML.
- A page that would load anything from another host fails the build.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbconvert import MarkdownExporter

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File, Files
    from mkdocs.structure.nav import Navigation
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = ROOT / "build" / "gallery"
# Pages from outside docs/, by the path that links in docs/ give.
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
# The notebooks that a newcomer reads first, in this order; the others follow by name.
BEGIN = ("quickstart", "prompt_lab", "confidence", "long_documents")
SUMMARY = "Ask a language model the same question about every row of a dataframe: typed columns, never paid twice."

_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?\)")
# What a browser loads by itself with a page, at an address of another host.
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon|prefetch))[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
)
# A list item of llms.txt, as llmstxt.org has it: a link, and what it leads to.
_LISTED = re.compile(r"- \[[^\]]+\]\(([^)\s]+)\)(?:: .+)?")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name each notebook in the navigation."""
    for item in config.nav:
        if "Notebooks" in item:
            item["Notebooks"] = ["notebooks/index.md", *(f"notebooks/{path.stem}.md" for path in _notebooks())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/."""
    for source, page in OUTSIDE.items():
        files.append(_generated(config, page, (ROOT / source).read_text(encoding="utf-8")))
    about = "Each runs from its first cell to its last, without a key, in [one environment](../index.md#notebooks)."
    listed = ["# Notebooks", "", about, ""]
    for path in _notebooks():
        title, text, pictures = _notebook(path)
        files.append(_generated(config, f"notebooks/{path.stem}.md", text))
        for name, data in pictures.items():
            files.append(_generated(config, f"notebooks/{name}", data))
        listed.append(f"- [{title}]({path.stem}.md): {_first_sentence(text)}")
    files.append(_generated(config, "notebooks/index.md", "\n".join(listed) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of *page* to pages of the site, and fill in the commands."""
    source = page.file.src_uri
    if source == "reference/command_line.md":
        markdown = markdown.replace("<!-- commands -->", "\n\n".join(_commands()))
    return _LINK.sub(lambda found: _on_site(found, source), markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from another host."""
    from mkdocs.exceptions import PluginError

    found = _LOADED.search(output)
    if found is not None:
        raise PluginError(f"{page.file.src_uri} would load something from another host: {found[0]}")
    return output


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Keep the navigation, by which `llms.txt` is ordered."""
    config.extra["nav"] = nav
    return nav


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt and the pages as Markdown."""
    lines = [f"# {config.site_name}", "", f"> {SUMMARY}"]
    for section, pages in _sections_of(config.extra["nav"]).items():
        lines += ["", f"## {section}", ""]
        for page in pages:
            target = Path(config.site_dir, page.file.src_uri)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(page.markdown or "", encoding="utf-8")
            about = _first_sentence(page.markdown or "")
            lines.append(f"- [{page.title}]({page.file.src_uri})" + (f": {about}" if about else ""))
    _check_list(lines, Path(config.site_dir))
    Path(config.site_dir, "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sections_of(nav: Navigation) -> dict[str, list[Page]]:
    """Return the pages of each section of the navigation; those of none come first."""
    sections: dict[str, list[Page]] = {"Begin here": []}
    for item in nav.items:
        if item.is_page:
            sections["Begin here"].append(item)
        else:
            sections[item.title] = list(_pages_below(item))
    return sections


def _pages_below(item: Any) -> Iterator[Page]:
    """Yield the pages of a section, at any depth."""
    for child in item.children:
        if child.is_page:
            yield child
        else:
            yield from _pages_below(child)


def _first_sentence(markdown: str) -> str:
    """Return the first sentence of a page's first paragraph as plain text, "" where it begins with something else."""
    prose = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\s*\n", prose):
        text = " ".join(paragraph.split())
        if text and not text.startswith(("#", "!", "|", "-", "<", ">", ":")):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", text)
            return re.split(r"(?<=[.?!])\s", plain, maxsplit=1)[0].rstrip(":")
    return ""


def _check_list(lines: list[str], site: Path) -> None:
    """Raise `PluginError` if a link of llms.txt is malformed, leads nowhere, or occurs twice."""
    from mkdocs.exceptions import PluginError

    wrong = [line for line in lines if line.startswith("-") and not _LISTED.fullmatch(line)]
    links = [found[1] for line in lines if (found := _LISTED.fullmatch(line))]
    wrong += [link for link in links if not (site / link).is_file()]
    if wrong or len(links) != len(set(links)):
        raise PluginError(f"llms.txt would have lines that lead nowhere, or twice to one page: {wrong}")


def _generated(config: MkDocsConfig, path: str, content: str | bytes) -> File:
    from mkdocs.structure.files import File

    return File.generated(config, path, content=content)


def _on_site(link: re.Match[str], source: str) -> str:
    """Return the link as it is on the site: to one of its pages, or to its start page if it has none for the file."""
    target, anchor = link[2], link[3] or ""
    if "://" in target or target.startswith("mailto:"):
        return link[0]
    outside = source in OUTSIDE.values()
    base = ROOT if outside else (ROOT / "docs" / source).parent
    at = (base / target).resolve()
    if not at.is_relative_to(ROOT):
        return link[0]
    inside = at.relative_to(ROOT)
    up = "../" * source.count("/")
    if inside.as_posix() in OUTSIDE:
        return f"{link[1]}{up}{OUTSIDE[inside.as_posix()]}{anchor})"
    if inside.parts[0] == "notebooks" and inside.suffix == ".ipynb":
        return f"{link[1]}{up}notebooks/{inside.stem}.md{anchor})"
    if inside == Path("README.md"):
        return f"{link[1]}{up}index.md)"
    if outside and inside.parts[0] == "docs":
        return f"{link[1]}{up}{inside.relative_to('docs').as_posix()}{anchor})"
    if outside or inside.parts[0] != "docs":
        # Files of the repository have no address yet: the site's own start is the nearest that there is.
        return f"{link[1]}{up}index.md)"
    return link[0]


def _notebooks() -> list[Path]:
    """Return the notebooks in the order in which they are listed."""
    by_name = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    return [by_name.pop(name) for name in BEGIN] + list(by_name.values())


def _notebook(path: Path) -> tuple[str, str, dict[str, bytes]]:
    """Return a notebook's title, its Markdown, and the pictures that it shows."""
    executed = EXECUTED / path.name
    notebook = nbformat.read(executed if executed.exists() else path, as_version=4)
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"output_files_dir": f"{path.stem}_files"})
    title = next(line for line in text.splitlines() if line.startswith("# ")).removeprefix("# ")
    # A relative link of a notebook is one from notebooks/, where its page is too.
    return title, text, dict(resources.get("outputs") or {})


def _commands() -> Iterator[str]:
    """Yield a section for `pllm` and each of its commands."""
    sys.path.insert(0, str(ROOT))
    from pllm_notebook import cli

    yield from _sections(cli._parser())


def _sections(parser: argparse.ArgumentParser) -> Iterator[str]:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)  # type: ignore[assignment]
    yield f"## {parser.prog}\n\n```text\n{parser.format_help().strip()}\n```"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _sections(command)
