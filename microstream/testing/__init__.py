"""What is shipped for tests: of plans, of connectors and stores, and of the engine itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from microstream.testing.cuts import check_cuts as check_cuts

__all__ = ["check_cuts"]


def __getattr__(name: str) -> Any:
    """Imported on use: a broker or a store for tests needs no frames (PEP 562)."""
    if name in __all__:
        from microstream.testing import cuts

        return getattr(cuts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
