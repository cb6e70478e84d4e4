# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors
"""Read a daemon's JSON configuration and check its shape.

A shape is written like the document itself::

    {"node": str, "listen": [(str, int)], "nodes": MapOf({"mark": int}), "gateway": Optional({"mark": int})}
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Union

Shape = Union[type, "MapOf", "Optional", dict, list, tuple]


class ConfigError(Exception):
    """The message names the file, and the key in it."""


@dataclass(frozen=True)
class MapOf:
    """An object with any keys and values of one shape."""

    values: Shape


@dataclass(frozen=True)
class Optional:
    """A value that may be null, or a key that may be absent: both read as None."""

    shape: Shape


def load(path: str | os.PathLike[str], shape: dict[str, Shape]) -> dict[str, Any]:
    """Return the document at ``path`` when it has this shape; every key is required and no other is allowed."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error
    try:
        checked: dict[str, Any] = check(document, shape)
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from None
    return checked


def check(value: Any, shape: Shape, key: str = "") -> Any:
    """Return ``value`` (absent optional keys filled in with None), or raise a ConfigError that names ``key``."""
    if isinstance(shape, Optional):
        return None if value is None else check(value, shape.shape, key)
    if isinstance(shape, MapOf):
        return {name: check(item, shape.values, _join(key, name)) for name, item in _expect(value, dict, key).items()}
    if isinstance(shape, dict):
        return _check_object(_expect(value, dict, key), shape, key)
    if isinstance(shape, list):
        return [check(item, shape[0], f"{key}[{i}]") for i, item in enumerate(_expect(value, list, key))]
    if isinstance(shape, tuple):
        if len(_expect(value, list, key)) != len(shape):
            raise ConfigError(f"{key}: expected {len(shape)} items, got {len(value)}")
        return tuple(check(item, part, f"{key}[{i}]") for i, (item, part) in enumerate(zip(value, shape)))
    return _expect(value, shape, key)


def _check_object(value: dict[str, Any], shape: dict[str, Shape], key: str) -> dict[str, Any]:
    for name in value.keys() - shape.keys():
        raise ConfigError(f"{_join(key, name)}: unknown key")
    for name in shape.keys() - value.keys():
        if not isinstance(shape[name], Optional):
            raise ConfigError(f"{_join(key, name)}: missing")
    return {name: check(value.get(name), part, _join(key, name)) for name, part in shape.items()}


def _expect(value: Any, kind: type, key: str) -> Any:
    """Check the type; an integer is a valid float, but a bool is no number."""
    kinds = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        names = {dict: "object", list: "list", str: "string", int: "integer", float: "number", bool: "boolean"}
        raise ConfigError(f"{key or 'document'}: expected {names[kind]}, got {json.dumps(value)[:60]}")
    return value


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
