"""`.str`, `.dt`, `.list` and `.struct` of a column: one line per member, so that editors complete them.

What a member does is in plan/rowwise.py; names, signatures and documentation are those of pandas.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, Self, TypeVar, cast, overload

import pandas as pd

from microstream.errors import PlanError
from microstream.plan.rowwise import ACCESSORS

__all__ = ["Lists", "Space", "Structs", "Texts", "Times", "like_pandas"]

C = TypeVar("C")
"""The column that comes out: a namespace knows how to make one, not what it can do."""

_DOCUMENTED: Mapping[str, tuple[Any, ...]] = {
    "str": (cast(Any, pd.Series).str,),
    "dt": (pd.DatetimeIndex, pd.TimedeltaIndex),
}


class Space(Generic[C]):
    """Members of one accessor; `make(name, *args, **kwargs)` gives the column of one."""

    __slots__ = ("_make",)
    space = ""

    def __init__(self, make: Callable[..., C]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        names = ", ".join(sorted(n for n in ACCESSORS[self.space] if not n.startswith("_")))
        raise PlanError(f".{self.space}.{name} is not available on columns of a stream. There are: {names}.")

    def __getitem__(self, at: Any) -> C:
        raise PlanError(f".{self.space}[{at!r}]: only .str and .list have elements.")

    def __iter__(self) -> NoReturn:
        raise PlanError(f".{self.space} cannot be looped over.")


class Method:
    """A method of a namespace, which gives a column."""

    def __set_name__(self, owner: type[Space[Any]], name: str) -> None:
        self._name = name
        self._like = _documented(owner.space, name)
        self.__doc__ = f"Row by row, as `pandas.Series.{owner.space}.{name}`."

    @overload
    def __get__(self, space: None, owner: type[Space[Any]]) -> Self: ...
    @overload
    def __get__(self, space: Space[C], owner: type[Space[C]]) -> Callable[..., C]: ...
    def __get__(self, space: Space[C] | None, owner: type[Space[Any]]) -> Any:
        return self if space is None else like_pandas(self._name, self._like, space._make)


class Part:
    """A property of a namespace, which is a column."""

    def __set_name__(self, owner: type[Space[Any]], name: str) -> None:
        self._name = name
        self.__doc__ = f"Row by row, as `pandas.Series.{owner.space}.{name}`."

    @overload
    def __get__(self, space: None, owner: type[Space[Any]]) -> Self: ...
    @overload
    def __get__(self, space: Space[C], owner: type[Space[C]]) -> C: ...
    def __get__(self, space: Space[C] | None, owner: type[Space[Any]]) -> Any:
        return self if space is None else space._make(self._name)


def like_pandas(name: str, like: Any, make: Callable[..., C]) -> Callable[..., C]:
    """`make(name, ...)` with the signature and documentation of `like`, for editors and notebooks."""

    def method(*args: Any, **kwargs: Any) -> C:
        return make(name, *args, **kwargs)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = inspect.getdoc(like)
    try:
        _, *parameters = inspect.signature(like).parameters.values()
    except (TypeError, ValueError):
        return method
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    method.__signature__ = inspect.Signature(plain)  # type: ignore[attr-defined]
    return method


def _documented(space: str, name: str) -> Any:
    return next((found for owner in _DOCUMENTED[space] if (found := getattr(owner, name, None)) is not None), None)


class Texts(Space[C]):
    """Row-wise members of `pandas.Series.str`; `[2]` and `[1:]` are characters of each text.

    Of lists, such as `.str.split()` gives, `[0]`, `[1:]`, `get` and `slice` are elements, `len` counts and `join` joins
    them.
    """

    __slots__ = ()
    space = "str"

    capitalize = Method()
    casefold = Method()
    center = Method()
    contains = Method()
    count = Method()
    decode = Method()
    encode = Method()
    endswith = Method()
    extract = Method()
    find = Method()
    findall = Method()
    fullmatch = Method()
    get = Method()
    index = Method()
    isalnum = Method()
    isalpha = Method()
    isascii = Method()
    isdecimal = Method()
    isdigit = Method()
    islower = Method()
    isnumeric = Method()
    isspace = Method()
    istitle = Method()
    isupper = Method()
    join = Method()
    len = Method()
    ljust = Method()
    lower = Method()
    lstrip = Method()
    match = Method()
    normalize = Method()
    pad = Method()
    partition = Method()
    removeprefix = Method()
    removesuffix = Method()
    repeat = Method()
    replace = Method()
    rfind = Method()
    rindex = Method()
    rjust = Method()
    rpartition = Method()
    rsplit = Method()
    rstrip = Method()
    slice = Method()
    slice_replace = Method()
    split = Method()
    startswith = Method()
    strip = Method()
    swapcase = Method()
    title = Method()
    translate = Method()
    upper = Method()
    wrap = Method()
    zfill = Method()

    def __getitem__(self, at: Any) -> C:
        return self._make("slice", at.start, at.stop, at.step) if isinstance(at, slice) else self._make("get", at)


class Times(Space[C]):
    """Row-wise members of `pandas.Series.dt`, for times and durations."""

    __slots__ = ()
    space = "dt"

    ceil = Method()
    date = Part()
    day = Part()
    day_name = Method()
    day_of_week = Part()
    day_of_year = Part()
    dayofweek = Part()
    dayofyear = Part()
    days = Part()
    days_in_month = Part()
    daysinmonth = Part()
    floor = Method()
    hour = Part()
    is_leap_year = Part()
    is_month_end = Part()
    is_month_start = Part()
    is_quarter_end = Part()
    is_quarter_start = Part()
    is_year_end = Part()
    is_year_start = Part()
    microsecond = Part()
    microseconds = Part()
    minute = Part()
    month = Part()
    month_name = Method()
    nanosecond = Part()
    nanoseconds = Part()
    normalize = Method()
    quarter = Part()
    round = Method()
    second = Part()
    seconds = Part()
    strftime = Method()
    total_seconds = Method()
    tz_convert = Method()
    tz_localize = Method()
    weekday = Part()
    year = Part()


class Lists(Space[C]):
    """Elements of a list: `.list[0]`, `.list[1:3]`, `.list.len()`."""

    __slots__ = ()
    space = "list"

    def len(self) -> C:
        """Number of elements of each list."""
        return self._make("len")

    def __getitem__(self, at: Any) -> C:
        return self._make("__getitem__", at)


class Structs(Space[C]):
    """Fields of a nested record: `.struct.field("id")`."""

    __slots__ = ()
    space = "struct"

    def field(self, name_or_index: Any) -> C:
        """One field, by its name, its position, or a list of names from the outside in."""
        return self._make("field", name_or_index)
