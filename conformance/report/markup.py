"""HTML built of elements, so that nothing reaches a page unescaped: only `Markup` is taken as it is.

What it is not for: pages (`page_frame` and its callers), and markup from outside: there is no way to pass it.
"""

from __future__ import annotations

import re
from html import escape
from typing import TypeAlias

_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_ATTRIBUTES = {"class_": "class", "href": "href", "id": "id", "scope": "scope"}
# XML and HTML know no way to write these, escaped or not; a log from a guest may hold any of them. The second row turns
# the direction of what is read: a name could look like another.
_UNSEEN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
_UNSEEN |= {code: f"\\u{code:04x}" for code in (0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F))}
_UNSEEN |= {code: f"\\u{code:04x}" for code in (*range(0x2060, 0x2070), 0xFEFF, *range(0xD800, 0xE000), 0xFFFE, 0xFFFF)}

_PLAIN = re.compile(r"[ !#-%(-;=?-~\t\n]*")  # ASCII that needs nothing: most of what there is


class Markup(str):
    """Text that is HTML already: what `element` and `join` return."""

    __slots__ = ()


Child: TypeAlias = "str | int | None"


def escape_text(text: str) -> Markup:
    """A text as HTML, for content and for attributes in double quotes; what can't be seen is spelled out.

    Args:
        text: From anywhere, a hostile guest included.
    """
    if _PLAIN.fullmatch(text):
        return Markup(text)
    return Markup(escape(text.translate(_UNSEEN)))


def join(*children: Child) -> Markup:
    """What stands one behind the other; None is nothing."""
    return Markup("".join([_as_markup(child) for child in children if child is not None]))


def element(name: str, /, *children: Child, **attributes: Child | bool) -> Markup:
    """One element.

    Args:
        name: Of the element.
        children: Texts, which are escaped, and markup.
        attributes: `class_` is class, other underscores are hyphens; True is an attribute without value, None and
            False are none.
    """
    head = f"<{name}"
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = _ATTRIBUTES.get(key) or key.replace("_", "-")
        head += f" {spelled}" if value is True else f' {spelled}="{escape_text(str(value))}"'
    if name in _VOID:
        return Markup(head + ">")
    content = "".join([_as_markup(child) for child in children if child is not None])
    return Markup(f"{head}>{content}</{name}>")


def _as_markup(child: str | int) -> str:
    if type(child) is Markup:
        return child
    return escape_text(str(child))
