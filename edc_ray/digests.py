"""Short hashes of values: what fingerprints are made of."""

from __future__ import annotations

import hashlib
import json


def digest_of(value: object) -> str:
    """16 hexadecimal digits of the SHA-256 of a JSON value; a ValueError if a number is not finite."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
