"""Argon2id in a bounded pool of threads: sign-ups and log-ins may be slow, everything else may not wait for
them."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import Type

from chatkernel.errors import ChatError, Code, invalid
from chatkernel.protocol import Limits

# OWASP Password Storage Cheat Sheet, Argon2id: m=19456 (19 MiB), t=2, p=1 is the recommended minimum. It is
# the default here because a pod of a laptop or of half a core must serve a thousand sign-ups without taking
# 64 MiB for each at once, as RFC 9106's second recommended option (t=3, p=4, m=64 MiB) would. Raising the
# numbers is enough: hashes of other parameters are made anew when their owner next logs in.
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1

WAITING_MAX = 128
"""Hashes that may wait for a thread; more are told to come back, which bounds both memory and waiting
time."""

P = ParamSpec("P")
T = TypeVar("T")


def check_password(password: str, limits: Limits, field: str = "password") -> None:
    """Length is the only rule (NIST SP 800-63B). Raises ChatError."""
    least, most = limits.password_min_chars, limits.password_max_chars
    if len(password) < least:
        raise invalid(field, f"at least {least} characters", least)
    if len(password) > most:
        raise invalid(field, f"at most {most} characters", most)


class Passwords:
    """Hash and verify. At most `threads` at once; each takes MEMORY_KIB of memory while it runs."""

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_kib: int = MEMORY_KIB,
        passes: int = PASSES,
        lanes: int = LANES,
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=passes, memory_cost=memory_kib, parallelism=lanes, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(
            threads or max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="argon2"
        )
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """In PHC form. Raises ChatError(BUSY)."""
        return await self._run(self._hasher.hash, _normal(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password. Without a stored hash the answer is no, after the same work, so that
        time does not tell whether there is such an account. Raises ChatError(BUSY)."""
        return await self._run(self._verify, stored or None, _normal(password))

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def prepare(self) -> None:
        """Make the hash that verifying for nobody needs (blocks for one hash): before the first request."""
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(16))

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._nobodys is None:
            self.prepare()
        try:
            return self._hasher.verify(stored or self._nobodys or "", password) and stored is not None
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= WAITING_MAX:
            detail = "Too many log-ins at once"
            raise ChatError(Code.BUSY, detail, field="password", limit=WAITING_MAX, retry_after_s=2.0)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, functools.partial(work, *args, **kwargs))
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """The same characters typed on another keyboard or system are the same password."""
    return unicodedata.normalize("NFKC", password)
