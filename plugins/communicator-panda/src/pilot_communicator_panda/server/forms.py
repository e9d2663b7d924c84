"""The parameters of a request whose body is not JSON: query strings, urlencoded and multipart forms.

PanDA's server leaves forms to Werkzeug; what that makes of repeated, broken and wrongly encoded fields was tried out
on Werkzeug 3.1.
"""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import re
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["FileStorage", "form", "query"]

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


class FileStorage:
    """An uploaded file: what a form field with a file name becomes. The server's messages name this class."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def query(text: str) -> dict[str, Any]:
    """Return the parameters of a query string; one that comes several times is a list."""
    params: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in params:
            params[name] = value
        elif isinstance(params[name], list):
            params[name].append(value)
        else:
            params[name] = [params[name], value]
    return params


def form(body: bytes, content_type: str) -> dict[str, Any]:
    """Return the fields of a form, the first of each name; nothing for another type or what cannot be read."""
    kind = content_type.partition(";")[0].strip()
    if kind == "application/x-www-form-urlencoded":
        return _urlencoded(body)
    if kind == "multipart/form-data":
        return _multipart(body, content_type)
    return {}


def _urlencoded(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {}
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
        fields.setdefault(_requote(name), _requote(value))
    return fields


def _requote(text: str) -> str:
    """Leave bytes that are no UTF-8 as they were sent: `%E9`."""
    return _ESCAPED_BYTE.sub(lambda found: f"%{ord(found.group()) - 0xDC00:02X}", text)


def _multipart(body: bytes, content_type: str) -> dict[str, Any]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    if not message.is_multipart() or message.defects:
        return {}
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name is None or part.get_content_disposition() != "form-data":
            return {}
        fields.setdefault(str(name), _part_value(part))
    return fields


def _part_value(part: email.message.Message) -> Any:
    data = part.get_payload(decode=True)
    content = data if isinstance(data, bytes) else b""
    if part.get_filename() is not None:
        return FileStorage(content)
    return content.decode("utf-8", "replace")
