"""Streaming data frames: Kafka topics as pandas frames that keep up to date, exactly once, on Dask."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import microstream.frame
    from microstream.frame import *  # noqa: F403

    __all__: list[str] = []
    __all__ += microstream.frame.__all__
else:
    # pandas, Arrow and Dask take a second to import: the command line answers --help without them (PEP 562).
    def __getattr__(name):
        if name == "__all__":
            return _frame().__all__
        if not name.startswith("_") and name in _frame().__all__:
            return getattr(_frame(), name)
        planned = import_module("microstream.later")
        if name in planned.MODULE:
            raise planned.later("microstream", name, planned.MODULE)
        if (found := import_module("microstream.frame.absent").absent_reader(name)) is not None:
            raise found
        raise AttributeError(f"module 'microstream' has no attribute {name!r}", name=name, obj=None)

    @cache
    def _frame():
        from microstream.runtime.pauses import no_collections

        with no_collections():
            return import_module("microstream.frame")

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
