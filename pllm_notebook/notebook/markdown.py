"""A model's Markdown, sanitized for a page that trusts it.

A notebook takes the outputs of a cell that was run for the user's own, and does not sanitise them: HTML in
Markdown is put into the page and its scripts are run, with everything the user may do there. A model repeats its
prompt, which may come from anyone. The text stays Markdown and cannot act.
"""

from __future__ import annotations

import re

from pllm_notebook.escaping import strip_control_chars

__all__ = ["sanitize"]

# Where a page would begin a tag, a comment or a processing instruction. With a blank after it "<" is only a sign,
# in running text, code and formulas alike; an entity would be shown as such in code, and every renderer recognizes
# code differently.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# An entity would spell the scheme of a link in other letters. A blank here too: to renderers that decode twice, as
# some do, "&amp;" would make the same entity.
_ENTITY = re.compile(r"&(?=#?\w{1,31};)")
# A link that runs a program at a click. Markdown leaves a backslash before ":" out.
_SCHEME = re.compile(r"((?:java|vb)script)(?=\\*:)", re.IGNORECASE)
# A picture is loaded from its address without a click, and the address can leak the prompt.
_PICTURE = re.compile(r"!(?=\[)")
# Formulas have links and styles of their own.
_FORMULA = re.compile(r"\\(?=(?:href|class|cssId|style|mmlToken|csname|require|unicode|includegraphics)\b)")


def sanitize(text: str) -> str:
    """Return Markdown that shows no HTML, loads nothing, and has no link but to another page.

    A picture is a link to it, and "<" before a letter and "&" before an entity have a blank after them.
    """
    text = _TAG.sub("< ", _ENTITY.sub("& ", strip_control_chars(text)))
    text = _SCHEME.sub(r"\1 ", text)
    return _FORMULA.sub(r"\\ ", _PICTURE.sub("! ", text))
