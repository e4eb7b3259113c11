"""The JSON Schema of a config file, for editors."""

from __future__ import annotations

from typing import Any

from proxy.config.model import Config


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Defaults are shown as one would write them."""
    schema = Config.model_json_schema(mode="validation")
    _tidy(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Weighbridge config"}


def _tidy(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _tidy(item)
    elif isinstance(part, dict):
        for setting in part.get("properties", {}).values():
            setting.pop("title", None)
            _as_written(setting)
        for item in part.values():
            _tidy(item)


def _as_written(setting: dict[str, Any]) -> None:
    default, examples = setting.get("default"), setting.get("examples", [])
    if isinstance(default, dict):
        del setting["default"]
    elif isinstance(default, float) and "30s" in examples:
        setting["default"] = f"{default:g}s"
    elif isinstance(default, int) and "32MiB" in examples:
        setting["default"] = f"{default // 2**20}MiB"
