"""Dataclasses of settings as tables in configurations: `{method = "<its name>", <its settings>}`."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter
from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from mechconn.core._checks import check_choice
from mechconn.core._plain import ADDED_LATER
from mechconn.core._registry import Registered, check_declared_fields, find_kind, list_kinds, name_kind

OWN_CLASS = {
    "type": "object",
    "description": "a class of your own, as package.module:Class, with its settings",
    "properties": {"method": {"type": "string", "pattern": ":"}},
    "required": ["method"],
}


class DescribedSetting(Registered, abc.ABC):
    """Base of values in the fields of settings that files name by a text or a table of their own."""

    @abc.abstractmethod
    def describe(self) -> str | dict[str, Any]:
        """As configuration files name it: plain values."""


@dataclass(frozen=True)
class MethodSettings(Registered):
    """Base of dataclasses whose fields are settings: pydantic reads them from tables, with the name or without it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def settings(self) -> dict[str, Any]:
        """Name and every setting: plain values.

        Raises:
            ValueError: annotations of a subclass without `@dataclass`, which are no settings.
        """
        check_declared_fields(type(self))
        return {"method": name_kind(type(self)), **self.list_fields()}

    def list_fields(self) -> dict[str, Any]:
        """Every setting as a plain value, those of methods in it too, without names.

        Fields that a later release added are left out at their defaults, so that ids of runs stay what they were.
        """
        found = ((known, getattr(self, known.name)) for known in fields(self))
        return {
            known.name: _describe_setting(value)
            for known, value in found
            if not (known.metadata == ADDED_LATER and value == known.default)
        }

    @classmethod
    def _drop_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a table of settings such as {{lr = 0.01}}, got {value!r}")
        known = list(dict.fromkeys((cls.registered_name, name_kind(cls))))
        check_choice("method", str(value.get("method", known[0])), known)
        return {key: setting for key, setting in value.items() if key != "method"}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        own: Any = handler.resolve_ref_schema(schema)  # the dataclass's, so that whatever refers to it reads names too
        own["schema"] = core_schema.no_info_before_validator_function(cls._drop_name, own["schema"])
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        own = handler.resolve_ref_schema(found)
        own["properties"] = {
            "method": {"const": cls.registered_name, "default": cls.registered_name},
            **own["properties"],
        }
        own["additionalProperties"] = False
        return found


def _describe_setting(value: Any) -> Any:
    """A setting as a plain value, as `dataclasses.asdict` has it: of what describes itself its description."""
    if isinstance(value, MethodSettings):
        return value.list_fields()
    if isinstance(value, DescribedSetting):
        return value.describe()
    if type(value) is list:
        return [_describe_setting(part) for part in value]
    if type(value) is tuple:
        return tuple(map(_describe_setting, value))
    if type(value) is dict:
        return {key: _describe_setting(part) for key, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {known.name: _describe_setting(getattr(value, known.name)) for known in fields(value)}
    return copy.deepcopy(value)


@dataclass(frozen=True)
class OneOf:
    """Annotation of a field of a configuration: settings of any registered kind of `base`, which the name tells apart.

    The kinds are looked up when a value is read, so that those of the user's own modules count. The schema lists the
    kinds of this package.
    """

    base: type

    @property
    def kinds(self) -> list[type]:
        """Every kind that is registered now."""
        return list(list_kinds(self.base).values())

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The union is what the schema shows; values are read by the kinds that are registered by then.
        own = list_kinds(self.base, built_in=True).values()
        union = core_schema.union_schema([handler.generate_schema(kind) for kind in own])
        return core_schema.no_info_wrap_validator_function(lambda value, _: self._read(value), union)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [*handler(schema)["anyOf"], OWN_CLASS]}

    def _read(self, value: Any) -> Any:
        if isinstance(value, self.base):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a table of settings such as {{method = 'Name', lr = 0.01}}, got {value!r}")
        kind = find_kind("method", self.base, str(value.get("method", "none")))
        if not issubclass(kind, MethodSettings):
            raise ValueError(f"method {value['method']!r} must be a dataclass that extends MethodSettings, to be read")
        check_declared_fields(kind)
        settings = {key: setting for key, setting in value.items() if key != "method"}
        named = {kind.__name__: TypeAdapter(kind).core_schema}  # mistakes are found behind the kind's name
        return SchemaValidator(core_schema.tagged_union_schema(named, lambda _: kind.__name__)).validate_python(
            settings
        )
