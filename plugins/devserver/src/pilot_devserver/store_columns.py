"""The columns that an update may set, and what PostgreSQL takes in each of them.

Sizes are those of `jobsactive4` in panda-database's schema for PostgreSQL; which values are cut by the server and which
make it lose the whole update was observed on panda-server 1.0.4. A value that does not fit is `StoreUnavailable`, as
any other trouble with the database: the server's answer does not tell the two apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

from pilot_core.api.server import StoreUnavailable

__all__ = ["COLUMNS", "CUT", "Number", "Text", "check_text", "stored"]

_INTEGER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)


@dataclass(frozen=True)
class Text:
    """A `varchar(size)`."""

    size: int

    def fit(self, name: str, value: Any) -> str:
        """Return the value as text; numbers become text as an assignment makes them."""
        text = value if isinstance(value, str) else str(value)
        check_text(name, text)
        if len(text) > self.size:
            raise StoreUnavailable(f"{name}: {len(text)} characters, the column takes {self.size}")
        return text


@dataclass(frozen=True)
class Number:
    """A numeric column: `low` <= value <= `high` after rounding to `digits` decimals."""

    low: Decimal
    high: Decimal
    digits: int = 0
    whole: bool = True
    """Whether text must be an integer (an `integer` column), or may have decimals (a `numeric` one)."""

    def fit(self, name: str, value: Any) -> int | float:
        """Return the value as a number; text is read as the database reads it."""
        if isinstance(value, str):
            check_text(name, value)
            if self.whole and not _INTEGER.fullmatch(value):
                raise StoreUnavailable(f"{name}: invalid input syntax for type integer: {value[:40]!r}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise StoreUnavailable(f"{name}: a number is needed, got {type(value).__name__}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise StoreUnavailable(f"{name}: {value} is out of range")
        return self._within(name, value)

    def _within(self, name: str, value: str | float) -> int | float:
        try:
            number = Decimal(value.strip() if isinstance(value, str) else value)
        except InvalidOperation:
            raise StoreUnavailable(f"{name}: invalid input syntax for type numeric") from None
        # the bounds first: rounding a number with more digits than the context holds is an error of its own
        if not number.is_finite() or not self.low <= number <= self.high:
            raise StoreUnavailable(f"{name}: value out of range")
        rounded = number.quantize(Decimal(1).scaleb(-self.digits))
        return float(rounded) if self.digits else int(rounded)


_INT4 = Number(Decimal(-(2**31)), Decimal(2**31 - 1))
_INT8 = Number(Decimal(-(2**63)), Decimal(2**63 - 1))
_CPU_TIME = Number(Decimal(-(10**20) + 1), Decimal(10**20 - 1), whole=False)
_CONVERSION = Number(Decimal("-99999.99994999"), Decimal("99999.99994999"), digits=4, whole=False)
_CORES = Number(Decimal("-999999.9949"), Decimal("999999.9949"), digits=2, whole=False)

_TEXTS = {
    "batch_id": 80,
    "cpu_architecture_level": 20,
    "cpu_consumption_unit": 128,
    "destination_site": 36,
    "end_time": 32,
    "exe_error_diag": 500,
    "grid": 50,
    "job_metrics": 500,
    "job_sub_status": 80,
    "node": 128,
    "pilot_error_diag": 500,
    "pilot_id": 200,
    "pilot_timing": 100,
    "scheduler_id": 128,
    "source_site": 36,
    "start_time": 32,
    "trans_exit_code": 128,
}
_MEMORY = ("max_rss", "max_vmem", "max_swap", "max_pss", "avg_rss", "avg_vmem", "avg_swap", "avg_pss")
_TRAFFIC = tuple(f"{kind}_{what}" for kind in ("tot", "rate") for what in ("rchar", "wchar", "rbytes", "wbytes"))

COLUMNS: Mapping[str, Text | Number] = MappingProxyType(
    {
        **{name: Text(size) for name, size in _TEXTS.items()},
        **dict.fromkeys((*_MEMORY, *_TRAFFIC, "n_events", "memory_leak"), _INT8),
        **dict.fromkeys(("core_count", "exe_error_code", "n_input_files", "pilot_error_code"), _INT4),
        "cpu_consumption_time": _CPU_TIME,
        "cpu_conversion_factor": _CONVERSION,
        "mean_core_count": _CORES,
    }
)
"""The columns by the v1 names of what is stored in them."""

CUT: Mapping[str, int] = MappingProxyType(
    {
        "destination_site": 36,
        "exe_error_diag": 500,
        "grid": 50,
        "job_sub_status": 80,
        "pilot_error_diag": 500,
        "source_site": 36,
    }
)
"""What the database layer itself cuts, to how many characters (observed for all but `destination_site`)."""

_LEAK = re.compile(r"leak=(-?\d+\.*\d+)", re.ASCII)


def check_text(name: str, text: str) -> None:
    """Raise `StoreUnavailable` for text that PostgreSQL cannot hold: a NUL character or half of a surrogate pair."""
    if "\0" in text:
        raise StoreUnavailable(f"{name}: a string literal cannot contain NUL (0x00) characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StoreUnavailable(f"{name}: not valid Unicode") from None


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as the columns take them; names that are no column are left out.

    Raises `StoreUnavailable` with the first value that does not fit.
    """
    kept: dict[str, Any] = {}
    for name, value in values.items():
        column = COLUMNS.get(name)
        if column is None or value is None:
            continue
        if name in CUT and isinstance(value, str):
            value = value[: CUT[name]]  # noqa: PLW2901  (the cut value is the value)
        kept[name] = column.fit(name, value)
    leak = _LEAK.search(str(kept.get("job_metrics", "")))
    if leak and leak.group(1).count(".") <= 1:
        kept["memory_leak"] = _INT8.fit("memory_leak", int(float(leak.group(1))))
    return kept
