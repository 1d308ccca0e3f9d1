"""Unix milliseconds as the texts of the wire: TID and datetime (protocol.md section 12). Reads no clock."""

from datetime import UTC, datetime, timedelta

_SORTABLE = "234567abcdefghijklmnopqrstuvwxyz"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tid(time_us: int, clock_id: int = 0) -> str:
    """The TID of `time_us` unix microseconds and a clock id of 10 bits: 13 characters, sorting like the number."""
    number = time_us << 10 | clock_id
    return "".join(_SORTABLE[number >> shift & 31] for shift in range(60, -1, -5))


def datetime_text(time_ms: int) -> str:
    """UTC with milliseconds and `Z`."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z"
