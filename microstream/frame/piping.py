"""`pipe`, as pandas has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from microstream.errors import PlanError

__all__ = ["piped"]


def piped(
    value: Any, fn: Callable[..., Any] | tuple[Callable[..., Any], str], args: Any, kwargs: Mapping[str, Any]
) -> Any:
    """`fn(value, *args, **kwargs)`; of a tuple, the text says which keyword takes `value`.

    >>> piped(3, pow, (2,), {}), piped(3, (pow, "exp"), (), {"base": 2})
    (9, 8)
    """
    if not isinstance(fn, tuple):
        return fn(value, *args, **kwargs)
    call, keyword = fn
    if keyword in kwargs:
        raise PlanError(f"pipe: {keyword!r} is given twice, as the keyword of the stream and as an argument.")
    return call(*args, **{**kwargs, keyword: value})
