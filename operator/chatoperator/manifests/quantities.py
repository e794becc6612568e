"""Amounts of CPU and memory as the API server writes them, so that what is applied is what is read back."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_BINARY = {"": 0, "Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def canonical(quantity: str | int) -> str:
    """No fraction, and the largest suffix that leaves none: `0.5` is `500m`, `2048Mi` is `2Gi`. What is finer than
    a thousandth is rounded up."""
    text = str(quantity)
    number = text.rstrip("numkKMGTPEi")
    suffix = text[len(number) :]
    if suffix.endswith("i"):
        value = Decimal(number) * 1024 ** _BINARY[suffix]
        if value == value.to_integral_value():
            return _binary(int(value))
    else:
        value = Decimal(number).scaleb(_DECIMAL[suffix])
    return _decimal(value)


def _binary(value: int) -> str:
    power = 0
    while value and value % 1024 == 0 and power < max(_BINARY.values()):
        value, power = value // 1024, power + 1
    return f"{value}{_suffix(_BINARY, power)}"


def _decimal(value: Decimal) -> str:
    count = int(value.scaleb(3).to_integral_value(ROUND_CEILING))
    power = -3
    while count and count % 1000 == 0 and power < max(_DECIMAL.values()):
        count, power = count // 1000, power + 3
    return f"{count}{_suffix(_DECIMAL, power) if count else ''}"


def _suffix(suffixes: dict[str, int], power: int) -> str:
    return next(suffix for suffix, of in suffixes.items() if of == power)
