"""Answers of the form API: fields as a form, or as JSON for who accepts that; and plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

__all__ = ["FAILED", "INVALID", "MISSING_KEY", "NO_JOBS", "NO_PERMISSION", "NO_ROLE", "PROXY_ERROR", "SUCCESS", "Text"]
__all__ += ["encode", "fields"]

SUCCESS, NO_JOBS, FAILED, INVALID, NO_ROLE = 0, 20, 30, 50, 60
NO_PERMISSION, MISSING_KEY, PROXY_ERROR = 70, 80, 90
"""Values of `StatusCode` (panda-server, `jobdispatcher/Protocol.py`)."""


@dataclass(frozen=True)
class Text:
    """A body with its type."""

    body: str
    content_type: str = "text/plain"

    @property
    def value(self) -> Any:
        """Return what stands for it within the answer of a bulk call."""
        return {"type": "json", "content": self.body} if self.content_type == "application/json" else self.body


def fields(status: int, *, dialog: str | None = None) -> dict[str, Any]:
    """Return the fields that every answer begins with."""
    return {"StatusCode": status} if dialog is None else {"StatusCode": status, "errorDialog": dialog}


def encode(data: Mapping[str, Any], *, as_json: bool) -> Text:
    """Return fields as JSON, or as a form, in which everything is text."""
    return Text(json.dumps(data), "application/json") if as_json else Text(urlencode(data))
