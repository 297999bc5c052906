"""Reference tables made from where things are defined: no second list that could be wrong.

`microstream-events` gives one table per class of `microstream.observe.events`, `microstream-settings` one of all
settings, and `microstream-errors` one of all errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from inspect import cleandoc
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from numpydoc.docscrape import NumpyDocString

from microstream import errors
from microstream.observe import events
from microstream.plan.text import duration
from microstream.settings import Settings


class Table(Directive):
    """Rows of `head` and `lines` as reStructuredText."""

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(StringList(lines, source="tables"), 0, section)
        return section.children


def list_table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]], widths: str) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if at == 0 else '  -'} {cell}" for at, cell in enumerate(row)]
    return [*lines, ""]


def literal(text: str) -> str:
    """Markdown's code marks as reStructuredText has them."""
    return text.replace("`", "``")


def type_name(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"list of {type_name(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"{type_name(get_args(kind)[1])} by name"
    if kind is type(None):
        return "null"
    if get_args(kind):
        return " or ".join(type_name(part) for part in get_args(kind) if get_origin(part) is not dict)
    return str(kind.__name__)


class Events(Table):
    """`microstream-events`: every key of a progress event."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for name in ("ProgressEvent", *(n for n in events.__all__ if n != "ProgressEvent")):
            shape = getattr(events, name)
            lines += [f"**{name}**", "", literal(shape.__doc__ or ""), ""]
            lines += list_table(("Key", "Type", "Meaning"), self.rows(shape), "25 20 55")
        return self.parsed(lines)

    def rows(self, shape: Any) -> Iterator[tuple[str, ...]]:
        for key, hint in get_type_hints(shape, include_extras=True).items():
            annotated = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
            kind, meaning = get_args(annotated)
            yield f"``{key}``", type_name(kind), literal(meaning)


class SettingsTable(Table):
    """`microstream-settings`: names as users write them, defaults, and what they mean."""

    def run(self) -> list[nodes.Node]:
        return self.parsed(list_table(("Setting", "Default", "Meaning"), self.rows(), "20 15 65"))

    def rows(self) -> Iterator[tuple[str, ...]]:
        meanings = {part.name: " ".join(part.desc) for part in NumpyDocString(cleandoc(Settings.__doc__))["Attributes"]}
        for field in fields(Settings):
            name = field.name.removesuffix("_us")
            default = f"{field.default:,}" if name == field.name else duration(field.default)
            yield f"``{name}``", default, literal(meanings[field.name])


class Errors(Table):
    """`microstream-errors`: which error is which, from the classes."""

    def run(self) -> list[nodes.Node]:
        return self.parsed(list_table(("Error", "Is a", "Means"), self.rows(), "22 22 56"))

    def rows(self) -> Iterator[tuple[str, ...]]:
        for name in errors.__all__:
            kind = getattr(errors, name)
            if isinstance(kind, type):
                bases = ", ".join(f"``{base.__name__}``" for base in kind.__bases__)
                yield f"``{name}``", bases, literal((kind.__doc__ or "").split("\n\n")[0].replace("\n", " "))


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("microstream-events", Events)
    app.add_directive("microstream-settings", SettingsTable)
    app.add_directive("microstream-errors", Errors)
    return {"parallel_read_safe": True}
