"""How a class is called on the wire."""

import functools


@functools.cache
def wire_name(name: str) -> str:
    """Return a class name in snake_case: `EncodeText` → `encode_text`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
