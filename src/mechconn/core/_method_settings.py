"""Dataclasses of settings as tables in configurations: `{method = "<its name>", <its settings>}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mechconn.core._checks import check_choice


@dataclass(frozen=True)
class MethodSettings:
    """Base of dataclasses whose fields are settings: pydantic reads them from tables, with the name or without it."""

    def settings(self) -> dict[str, Any]:
        """Name and every setting: plain values."""
        return {"method": type(self).__name__, **asdict(self)}

    @classmethod
    def _drop_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError(f"expected a table of settings such as {{lr = 0.01}}, got {value!r}")
        check_choice("method", str(value.get("method", cls.__name__)), [cls.__name__])
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
        own["properties"] = {"method": {"const": cls.__name__, "default": cls.__name__}, **own["properties"]}
        own["additionalProperties"] = False
        return found


@dataclass(frozen=True)
class OneOf:
    """Annotation of a field of a configuration: one of these kinds of settings, which the name tells apart."""

    kinds: tuple[type[MethodSettings], ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = {kind.__name__: handler.generate_schema(kind) for kind in self.kinds}
        union = core_schema.tagged_union_schema(kinds, self._find_name)
        return core_schema.no_info_before_validator_function(self._check_name, union)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": handler(schema)["oneOf"]}

    def _check_name(self, value: Any) -> Any:
        check_choice("method", self._find_name(value), [kind.__name__ for kind in self.kinds])
        return value

    def _find_name(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return str(value.get("method", "none"))
        # The first one refuses what is neither a table nor a method.
        return next((kind.__name__ for kind in self.kinds if isinstance(value, kind)), self.kinds[0].__name__)
