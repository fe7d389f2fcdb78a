"""The readable text of an HTML page: tags, scripts and navigation are no training data."""

import re
from html.parser import HTMLParser

_SKIPPED = frozenset({"script", "style", "head", "nav", "template", "noscript", "svg", "form"})
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "div", "dl",
    "dt", "figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header",
    "hr", "li", "main", "ol", "p", "pre", "section", "table", "tbody", "tfoot",
    "thead", "tr", "ul",
})
# fmt: on


def html_text(page: str) -> str:
    """The page's text, one line for each block or table row; preformatted parts as they are."""
    parser = _TextParser()
    parser.feed(page)
    parser.close()
    text = re.sub(r"[ \t]+\n", "\n", "".join(parser.parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


class _TextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._skip: list[str] = []
        self._pre = 0
        self._cell = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED:
            self._skip.append(tag)
        elif tag in ("td", "th"):
            self._cell += 1
        elif tag in _BLOCKS:
            self._break()
            self._pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._skip:
            # A page may forget to close what lies inside.
            del self._skip[self._skip.index(tag) :]
        elif tag == "body":
            self._skip.clear()
        elif tag in ("td", "th"):
            self._break()
            self._cell = max(0, self._cell - 1)
        elif tag in _BLOCKS:
            self._cell = 0 if tag in ("tr", "table") else self._cell
            self._break()
            self._pre = max(0, self._pre - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        if not self._pre:
            data = re.sub(r"\s+", " ", data)
            if not self.parts or self.parts[-1][-1].isspace():
                data = data.lstrip()
        if data:
            self.parts.append(data)

    def _break(self) -> None:
        self.parts.append(" " if self._cell and not self._pre else "\n")
