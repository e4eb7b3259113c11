"""The JSON Schema of a config file, for editors."""

from __future__ import annotations

from typing import Any

from proxy.config.model import Config


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Defaults are shown as one would write them."""
    schema = Config.model_json_schema(mode="validation")
    for section in (schema, *schema["$defs"].values()):
        for setting in section.get("properties", {}).values():
            _tidy(setting)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Weighbridge config"}


def _tidy(setting: dict[str, Any]) -> None:
    setting.pop("title", None)
    default, examples = setting.get("default"), setting.get("examples", [])
    if isinstance(default, dict):
        del setting["default"]
    elif "30s" in examples:
        setting["default"] = f"{default:g}s"
    elif "32MiB" in examples:
        setting["default"] = f"{default // 2**20}MiB"
