"""Settings, from a JSON file and the environment."""

import json
import os
from dataclasses import dataclass, fields, replace
from typing import Optional

from inventory.errors import ConfigError

PREFIX = "INVENTORY_"


@dataclass(frozen=True)
class Config:
    database: str = "inventory.db"
    port: int = 8080
    price_feed: Optional[str] = None
    price_cache: Optional[str] = None
    webhook: Optional[str] = None


def load(path=None, environ=os.environ):
    """Return the settings: defaults, then the file's, then the environment's."""
    config = Config()
    if path is not None:
        config = _merge(config, _read(path))
    found = {
        field.name: environ[PREFIX + field.name.upper()]
        for field in fields(Config)
        if PREFIX + field.name.upper() in environ
    }
    return _merge(config, found)


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except OSError:
        raise ConfigError(f"cannot read the settings in {path}")
    except ValueError:
        raise ConfigError(f"the settings in {path} are no JSON")
    if not isinstance(values, dict):
        raise ConfigError(f"the settings in {path} must be an object")
    return values


def _merge(config, values):
    known = {field.name for field in fields(Config)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown setting: {unknown[0]}")
    values = dict(values)
    if "port" in values:
        try:
            values["port"] = int(values["port"])
        except (TypeError, ValueError):
            raise ConfigError(f"the port must be a number, not {values['port']!r}")
    return replace(config, **values)
