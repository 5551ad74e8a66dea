"""The schemas of configuration files, as JSON Schema."""

from __future__ import annotations

from typing import Any

from mechconn.cli._audit_config import AuditConfig
from mechconn.core import check_choice
from mechconn.paper import SCALES, Recipe, find_recipe

AUDIT = "audit"


def list_schema_names() -> list[str]:
    """Every recipe that is defined, and "audit"."""
    return [*Recipe.registered, AUDIT]


def make_schema(name: str) -> dict[str, Any]:
    """The schema of the file that `mechconn run` or `mechconn audit` reads.

    Args:
        name: a recipe's name, or its class as "package.module:Class"; or "audit".

    Raises:
        ValueError: no such name.
    """
    if name == AUDIT:
        return AuditConfig.model_json_schema()
    if ":" not in name:
        check_choice("schema", name, list_schema_names())
    recipe = find_recipe(name)
    schema = type(recipe.settings("smoke", False)).model_json_schema()
    own = {"recipe": {"const": name}, "scale": {"enum": list(SCALES), "default": "smoke"}}
    settings = {key: _allow_single_item(value) for key, value in schema["properties"].items()}
    if "methods" in settings:
        names = {"type": "string", "description": 'names of the recipe\'s own methods, as in "CBFT,FT-M"'}
        settings["methods"] = {"anyOf": [settings["methods"], names, {"type": "array", "items": names}]}
    # A file changes the recipe's own settings, and may leave out any of them.
    return {
        **schema,
        "title": name,
        "description": recipe.about,
        "properties": own | settings,
        "required": ["recipe"],
    }


def _allow_single_item(value: dict[str, Any]) -> dict[str, Any]:
    """A list may also be written as its one item, or as text with commas."""
    if value.get("type") != "array":
        return value
    items = value.get("items", {})
    either = [{**value, "items": {"anyOf": [items, {"type": "string"}]}}, items, {"type": "string"}]
    return {"title": value.get("title", ""), "anyOf": either}
