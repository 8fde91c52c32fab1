"""The identity of a configuration: canonical JSON of what determines a result, and its sha256.

Every field of a dataclass counts, but for those whose metadata say otherwise: NOT_IDENTITY, UNLESS_DEFAULT, or
``{"identity": rule}`` with a function that is asked of the object.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

NOT_IDENTITY: dict[str, Any] = {"identity": False}
"""of fields that change no result"""
UNLESS_DEFAULT: dict[str, Any] = {"identity": "unless default"}
"""of switches that came later: while they have their default, results keep the ids they had without them"""
SLUG_LENGTH = 40


def slug(text: str) -> str:
    """At most 40 characters of a-z, 0-9 and single hyphens; never empty, never a path."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text)[:SLUG_LENGTH].strip("-") or "prompt"


def identity(value: Any) -> Any:
    """The JSON form of what determines a result: nested dataclasses as objects, without unmarked fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = (f for f in dataclasses.fields(value) if _counts(f, value))
        return {f.name: identity(getattr(value, f.name)) for f in kept}
    if isinstance(value, Mapping):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    return value


def _counts(field: dataclasses.Field[Any], owner: Any) -> bool:
    """Whether a field of this object is part of its identity; a rule that is a function is asked of the object."""
    rule = field.metadata.get("identity", True)
    if callable(rule):
        return bool(rule(owner))
    return bool(rule) if rule != "unless default" else getattr(owner, field.name) != field.default


def stored(value: Any) -> Any:
    """The JSON form of all fields, also of those outside the identity, for files that are read back."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, floats by repr; NaN and infinity raise ValueError."""
    return json.dumps(
        identity(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode("utf-8")).hexdigest()
