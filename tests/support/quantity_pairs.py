"""Amounts as a person may write them, and as Kubernetes keeps them."""

from __future__ import annotations

PAIRS: list[tuple[int | str, str]] = [
    (1, "1"),
    ("1", "1"),
    ("1000m", "1"),
    ("0.5", "500m"),
    ("1.5", "1500m"),
    ("250m", "250m"),
    ("2000", "2k"),
    ("1024Mi", "1Gi"),
    ("1000Mi", "1000Mi"),
    ("1.5Gi", "1536Mi"),
    ("0.5Ki", "512"),
    ("1Ki", "1Ki"),
    ("128974848", "128974848"),
    ("129M", "129M"),
    ("1000M", "1G"),
    ("0", "0"),
    ("0.1n", "1m"),
    ("1500u", "2m"),
]
