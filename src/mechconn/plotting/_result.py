"""Results: what every one of them can do, and how they become files and come back."""

from __future__ import annotations

import abc
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.annotated_handlers import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mechconn.core import check_choice, require_extra, to_plain, to_plain_fields, write_atomically
from mechconn.plotting._cards import Card, make_header_card
from mechconn.plotting._html import render_template
from mechconn.plotting._result_figures import list_drawings
from mechconn.plotting._sections import Header, Section, Table, collect_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULT_VERSION = 3
"""Of the plain values of results. 3: fields of the results themselves; 2 and before: records of release 0.1.0."""
HEADER = ("schema_version", "kind")
REPR_LINES, REPR_WIDTH = 12, 160

AnyResult = TypeVar("AnyResult", bound="Result")


class Result(abc.ABC):
    """Base of every result: a frozen dataclass that prints, draws, is saved and read back.

    A subclass is declared as

        @dataclass(frozen=True, repr=False)
        class Found(Result, kind="found"): ...

    which registers it under its kind, the name that files hold. It gives `__str__`, `rows`, and what it shows:
    `sections`, and `plot` where there is a picture.

    Fields are plain values, other results, or dataclasses of these. What files leave out, networks and values of every
    sample, is a field with a default and `metadata=NOT_SAVED`.

    Raises:
        ValueError: another class has the kind.
    """

    kind: ClassVar[str] = ""
    """Its name in files."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Properties that files hold beside the fields, for readers; they are computed anew when a file is read."""
    kinds: ClassVar[dict[str, type[Result]]] = {}
    """Kind -> class of every result that is defined."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    def __init_subclass__(cls, kind: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        if kind:
            _refuse_second_class(kind, cls)
            cls.kind = kind
            Result.kinds[kind] = cls

    # ------------------------------------------------------------ plain values

    def to_dict(self) -> dict[str, Any]:
        """Plain values as JSON holds them: schema version, kind, every field, and what follows from these.

        Numbers that are not finite are the texts "Infinity", "-Infinity" and "NaN", which `float` reads.
        """
        return {"schema_version": RESULT_VERSION, "kind": self.kind, **self.to_plain()}

    def to_plain(self) -> dict[str, Any]:
        """The same without version and kind, as it stands inside another result."""
        return to_plain_fields(self) | {name: to_plain(getattr(self, name)) for name in self.derived}

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_dict(cls: type[AnyResult], plain: Mapping[str, Any]) -> AnyResult:
        """The result from its plain values, with or without version and kind.

        Raises:
            ValueError: values of another kind or of a newer version, or that are no such result; of version 2 and
                before where they cannot be carried over.
        """
        check_choice("kind", str(plain.get("kind", cls.kind)), [cls.kind])
        if _check_version(cls.kind, plain) < RESULT_VERSION:
            plain = cls._migrate_or_explain(plain)
        try:
            return cast(AnyResult, _make_adapter(cls).validate_python(plain))
        except ValidationError as error:
            first, count = error.errors()[0], error.error_count()
            place = ".".join(map(str, first["loc"])) or cls.kind
            more = f" (and {count - 1} more)" if count > 1 else ""
            raise ValueError(
                f"these values are no {cls.kind}: {place}: {first['msg']}, got {str(first['input'])[:60]!r}{more}; "
                "pass what to_dict() gave"
            ) from error

    def check_whole(self) -> None:
        """Refuse fields that contradict each other, such as a split that one has and another lacks.

        Raises:
            ValueError: it cannot be printed or shown.
        """
        try:
            _ = str(self), self.header(), self.cards(), self.findings, self.rows(), self.sections()
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
            raise ValueError(
                f"the parts of this {self.kind} do not fit together ({type(error).__name__}: {error}); pass what "
                "to_dict() gave"
            ) from error

    @classmethod
    def recognises(cls, plain: Mapping[str, Any]) -> bool:
        """Whether plain values without a kind, as release 0.1.0 wrote some, are of this one."""
        return False

    @classmethod
    def migrate(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Plain values of release 0.1.0 as those of today.

        Raises:
            ValueError: they lack what a result of today holds.
        """
        raise ValueError(
            f"this {cls.kind} was written by mechconn 0.1.0 and lacks what this version holds; compute it anew, or "
            "read it with mechconn 0.1.0"
        )

    @classmethod
    def _migrate_or_explain(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return cls.migrate(plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"these values are no {cls.kind} of mechconn 0.1.0 ({type(error).__name__}: {error}); pass what its "
                "--json or to_json() wrote"
            ) from error

    def save(self, file: str | Path) -> None:
        """Write `to_dict` as a JSON file, which `mechconn.load_result` reads; it appears whole or not at all.

        Raises:
            OSError: the folder does not exist or cannot be written.
        """
        write_atomically(Path(file), (json.dumps(self.to_dict(), allow_nan=False, indent=1) + "\n").encode())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        own: Any = handler.resolve_ref_schema(schema)  # the dataclass's, so that results inside results are read alike
        own["schema"] = core_schema.no_info_before_validator_function(cls._drop_derived, own["schema"])
        return schema

    @classmethod
    def _drop_derived(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: part for key, part in value.items() if key not in (*HEADER, *cls.derived)}

    # ------------------------------------------------------------ what is shown

    def header(self) -> Header:
        """What stands on top of its page."""
        return Header(self.kind.replace("_", " "))

    def cards(self) -> list[Card]:
        """The questions that it answers, on top of its page; by default that of the header."""
        return make_header_card(self.header())

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers say, in sentences; the first part of its page."""
        return ()

    @abc.abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Its numbers as flat records of equal keys, for tables of any kind."""

    @abc.abstractmethod
    def sections(self) -> list[Section]:
        """What pages and notebooks show: tables and figures under headings."""

    def tables(self) -> list[Table]:
        """Every table of `sections`."""
        return collect_tables(self.sections())

    def all_sections(self) -> list[Section]:
        """`sections`, and one more for each figure that was registered for this kind of result."""
        return [*self.sections(), *list_drawings(self)]

    def plot(self, *, ax: Axes | None = None) -> Figure:
        """A picture, as a matplotlib Figure that a notebook shows; into `ax` where one is given.

        Raises:
            ValueError: there is none.
        """
        raise ValueError(f"a {type(self).__name__} has no picture; print it, or take its rows()")

    def to_frame(self) -> Any:
        """`rows` as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        with require_extra("to_frame", "pandas"):
            import pandas
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        """The first lines of `print`, twelve at most."""
        lines = [_cut(line) for line in f"{type(self).__name__}: {self}".splitlines()]
        if len(lines) > REPR_LINES:
            lines = [*lines[: REPR_LINES - 1], f"... {len(lines) - REPR_LINES + 1} more lines: print the result"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Its tables and pictures, as notebooks show them."""
        return render_template(
            "result.html.j2", header=self.header(), findings=self.findings, sections=self.all_sections()
        )


def _check_version(kind: str, plain: Mapping[str, Any]) -> int:
    """The schema version of plain values; today's where they name none."""
    version = plain.get("schema_version", RESULT_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ValueError(
            f"schema_version must be a whole number of 1 or more, got {version!r}; pass what to_dict() gave"
        )
    if version > RESULT_VERSION:
        raise ValueError(
            f"this {kind} has schema version {version!r}, and this mechconn reads up to {RESULT_VERSION}; "
            "install a newer mechconn to read it"
        )
    return version


def _refuse_second_class(kind: str, new: type[Result]) -> None:
    """Raise where another class has the kind already; the same class may be defined again, as in a notebook."""
    first, second = (
        None if found is None else f"{found.__module__}:{found.__qualname__}" for found in (Result.kinds.get(kind), new)
    )
    if first is not None and first != second:
        raise ValueError(
            f"the kind of result {kind!r} is defined twice, as {first} and as {second}; give one of them another kind"
        )


def _cut(line: str) -> str:
    return line if len(line) <= REPR_WIDTH else f"{line[: REPR_WIDTH - 3]}..."


@cache
def _make_adapter(kind: type[Result]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_result(plain: Mapping[str, Any], what: str = "the result") -> Result:
    """The result that plain values describe, by their kind.

    Raises:
        ValueError: no kind, an unknown one, parts that contradict each other, or as `Result.from_dict`.
    """
    kind = plain.get("kind", next((name for name, found in Result.kinds.items() if found.recognises(plain)), None))
    if not isinstance(kind, str):
        raise ValueError(f"{what} names no kind of result; pass what to_dict() gave or save() wrote")
    try:
        found = _find_class(kind, plain).from_dict(plain)
        found.check_whole()
        return found
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _find_class(kind: str, plain: Mapping[str, Any]) -> type[Result]:
    version = _check_version(kind, plain)
    if kind not in Result.kinds and version < RESULT_VERSION:
        raise ValueError(
            f"mechconn 0.1.0 wrote this {kind}, a kind that this version does not read; run mechconn {kind} again, or "
            "read it with mechconn 0.1.0"
        )
    return Result.kinds[check_choice("kind", kind, sorted(Result.kinds))]
