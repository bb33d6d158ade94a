"""A small XML tree with line numbers, which refuses document types and entities before they can do anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from drivetl.errors import DatasetError, quoted
from drivetl.files import read_limited

__all__ = ["Node", "parse_annotation"]

_LIMIT_BYTES = 8 << 20
_LIMIT_DEPTH = 32


@dataclass(slots=True)
class Node:
    """One element: its tag, the line it starts on, its text and its children."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def all(self, tag: str) -> Iterator[Node]:
        """Yield the direct children of that tag."""
        return (child for child in self.children if child.tag == tag)

    def first(self, tag: str) -> Node | None:
        """Return the first direct child of that tag."""
        return next(self.all(tag), None)

    def value(self, tag: str) -> str | None:
        """Return the text of the first direct child of that tag, without surrounding space."""
        child = self.first(tag)
        return None if child is None else child.text.strip()


def parse_annotation(path: Path) -> Node:
    """Return the root element of a Pascal VOC annotation.

    Raises:
        DatasetError: the file cannot be read, is not XML, has a DOCTYPE or entities, or another root element.
    """
    root = Node("", 0)
    open_nodes = [root]
    # The pieces of each open element's text, joined once at its end: adding them up takes quadratic time.
    open_texts: list[list[str]] = [[]]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, _: dict[str, str]) -> None:
        if len(open_nodes) > _LIMIT_DEPTH:
            raise DatasetError(f"{quoted(path)}, line {parser.CurrentLineNumber}: elements are nested too deeply")
        node = Node(tag, parser.CurrentLineNumber)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)
        open_texts.append([])

    def end(_: str) -> None:
        open_nodes.pop().text = "".join(open_texts.pop())

    def text(data: str) -> None:
        open_texts[-1].append(data)

    def doctype(*_: object) -> None:
        raise DatasetError(
            f"{quoted(path)}, line {parser.CurrentLineNumber}: a DOCTYPE or entity has no place in an annotation; "
            "remove it if you trust the file"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    # The document type is where entities are declared, so none is ever expanded or fetched.
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    try:
        parser.Parse(read_limited(path, _LIMIT_BYTES), True)
    except expat.ExpatError as error:
        raise DatasetError(f"{quoted(path)}, line {error.lineno}: not XML ({expat.ErrorString(error.code)})") from error
    except LookupError as error:
        raise DatasetError(f"{quoted(path)}: the XML names an {error}; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {quoted(path)}: {quoted(error)}") from error
    annotation = root.children[0]
    if annotation.tag != "annotation":
        raise DatasetError(f"{quoted(path)}: the root element is {quoted(annotation.tag)}, Pascal VOC has 'annotation'")
    return annotation
