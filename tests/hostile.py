"""Texts that would act where they are shown as they are, and how to tell that they did not."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;title\x07",
    "a\u202egnp.exe",
    "\u2066isolated\u2069",
    "one\ntwo\r\nthree\u2028four",
    "=cmd|'/c calc'!A1",
    "[click](javascript:alert(1)) ![](https://example.org/x.png) <https://example.org>",
    "| a | b |\n|---|---|\n# title",
    "`code` **bold** _it_ ~~gone~~ $x^2$ :smile: www.example.org https://example.org a@example.org",
    "&lt;script&gt; &#60;b&#62;",
    "\ud800 lone",
    "\\x1b is not an escape",
]


class Read(HTMLParser):
    """The tags and the words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
