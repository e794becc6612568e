"""The API pods over HTTP: typed calls, tokens that renew themselves, retries where they are harmless."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from random import Random
from typing import Any, Protocol, TypeVar

import httpx
import msgspec
from msgspec import Struct

from chatclient.backoff import Backoff
from chatclient.errors import Unreachable
from chatclient.transport import PlainTransport
from chatkernel.errors import ChatError, Code
from chatkernel.ids import NowMs, now_ms
from chatkernel.protocol import ClientFrame, Seats, ServerFrame, encode_json

REFRESH_BEFORE_MS = 30_000
"""An access token that expires within this is renewed first."""

RETRY_FOR_S = 15.0
"""How long a harmless call is tried again: longer than an API pod takes to be replaced."""

REQUEST_TIMEOUT_S = 10.0

T = TypeVar("T")


class Tokens(Struct, frozen=True):
    """What a login gives. `expires_at` (Unix ms) is the access token's."""

    user_id: str
    device_id: str
    access_token: str
    refresh_token: str
    expires_at: int


class TokenStore(Protocol):
    """Where a device's tokens are kept, maybe shared with other processes that are the same device."""

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Whoever is inside may renew the tokens, and nobody else."""

    def load(self) -> Tokens | None:
        """What was kept last, by whomever."""

    def keep(self, tokens: Tokens) -> None:
        """May raise OSError, as `turn` may: it is tried again later."""


class Credentials(Struct, frozen=True):
    """With these a client whose tokens are lost logs in again, as the same device."""

    username: str
    password: str


class FramesAnswer(Struct, frozen=True):
    frames: list[ServerFrame]


class _Problem(Struct, frozen=True):
    code: str = "internal"
    detail: str = ""
    field: str | None = None
    limit: int | None = None
    retry_after_s: float | None = None


class Nothing(Struct, frozen=True):
    """The body of an answer that says nothing that we read."""


_CODES_BY_STATUS = {
    401: Code.UNAUTHENTICATED,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    413: Code.TOO_LARGE,
    429: Code.RATE_LIMITED,
}
"""For answers of something between us and the cluster, such as a proxy."""


def problem_of(response: httpx.Response) -> ChatError:
    """The catalogue's error in an RFC 9457 answer, or what its HTTP status comes to when it is none."""
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
        code = Code(problem.code)
    except (msgspec.DecodeError, ValueError):
        status = response.status_code
        code = Code.BUSY if status >= 500 else _CODES_BY_STATUS.get(status, Code.MALFORMED)
        return ChatError(code, f"HTTP {status} from {response.url.host}, and not by a chat cluster")
    retry_after_s = problem.retry_after_s
    header = response.headers.get("retry-after", "")
    if retry_after_s is None and header.isdigit():
        retry_after_s = float(header)
    return ChatError(
        code, problem.detail, field=problem.field, limit=problem.limit, retry_after_s=retry_after_s
    )


def new_http(max_connections: int = 16) -> httpx.AsyncClient:
    """A pool of kept-alive connections; many clients of one process may share one."""
    limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections)
    timeout = httpx.Timeout(REQUEST_TIMEOUT_S, connect=3.0, pool=60.0)
    return httpx.AsyncClient(
        limits=limits,
        timeout=timeout,
        trust_env=False,
        mounts={"http://": PlainTransport(max_connections)},
        headers={"accept-encoding": "identity"},
    )


class Api:
    """One person's device at the API. Not closed by itself when `http` was passed in: it may be shared."""

    def __init__(
        self,
        base_url: str,
        *,
        tokens: Tokens | None = None,
        credentials: Credentials | None = None,
        http: httpx.AsyncClient | None = None,
        store: TokenStore | None = None,
        rng: Random | None = None,
        now: NowMs = now_ms,
        retry_for_s: float = RETRY_FOR_S,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.tokens, self.credentials = tokens, credentials
        self._owns_http = http is None
        self._http = http or new_http()
        self.store, self._rng, self._now = store, rng or Random(), now
        self._retry_for_ms = retry_for_s * 1000
        self._renewing: asyncio.Lock = asyncio.Lock()
        self._unkept = False
        self._outdated: Tokens | None = None
        """What the store still holds though it is used up, since the newer could not be written."""

    async def close(self) -> None:
        await self._keep_late()
        if self._owns_http:
            await self._http.aclose()

    # --- sessions ---

    async def sign_up(self, username: str, password: str, device_name: str = "") -> Tokens:
        """Raises ChatError(USERNAME_TAKEN, INVALID_FIELD …) or Unreachable."""
        body = {"username": username, "password": password, **_optional("device_name", device_name)}
        tokens = await self.call("POST", "/v1/accounts", body, kind=Tokens, auth=False)
        self.credentials = Credentials(username, password)
        return self._keep(tokens)

    async def log_in(self, username: str, password: str, device_name: str = "") -> Tokens:
        """As the device we already were, if we were one. Raises ChatError(WRONG_CREDENTIALS …) or
        Unreachable."""
        body = {"username": username, "password": password, **_optional("device_name", device_name)}
        if self.tokens is not None:
            body["device_id"] = self.tokens.device_id
        tokens = await self.call("POST", "/v1/sessions", body, kind=Tokens, auth=False, retry=True)
        self.credentials = Credentials(username, password)
        return self._keep(tokens)

    async def log_out(self, *, everywhere: bool = False) -> None:
        """This device, or all of the account's."""
        await self.call("DELETE", "/v1/sessions" if everywhere else "/v1/sessions/current", kind=Nothing)
        self.tokens = None

    async def access_token(self) -> str:
        """A token that is valid for a while yet; renewed or logged in anew if need be."""
        await self._keep_late()
        tokens = self.tokens
        if tokens is None or tokens.expires_at - self._now() < REFRESH_BEFORE_MS:
            tokens = await self._renew(tokens)
        return tokens.access_token

    async def _renew(self, stale: Tokens | None) -> Tokens:
        async with self._renewing:  # a refresh token may be used once: never twice at the same time
            if self.tokens is not None and self.tokens is not stale:
                return self.tokens
            if self.store is None:
                return await self._refresh(stale)
            async with self._turn():
                kept = self.store.load()
                if kept is None or kept == self._outdated or not _newer(kept, stale):
                    return await self._refresh(stale)
                self.tokens = kept  # another process was first: what we have is used up
                if kept.expires_at - self._now() >= REFRESH_BEFORE_MS:
                    return kept
                return await self._refresh(kept)

    async def _refresh(self, stale: Tokens | None) -> Tokens:
        if stale is not None:
            try:
                body = {"refresh_token": stale.refresh_token}
                path = "/v1/sessions/refresh"
                return self._keep(await self.call("POST", path, body, kind=Tokens, auth=False))
            except ChatError as error:
                if error.retryable or self.credentials is None:
                    raise
            except Unreachable:
                # The answer may have been lost after the token was used up: with a password we are safe.
                if self.credentials is None:
                    raise
        if self.credentials is None:
            raise ChatError(Code.UNAUTHENTICATED)
        return await self.log_in(self.credentials.username, self.credentials.password)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The store's; one that cannot be used now may be later. Raises Unreachable."""
        assert self.store is not None  # noqa: S101 - asked for by those who have one
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.store.turn())
            except OSError as error:
                raise Unreachable(f"the session's file cannot be used: {error.strerror or error}") from error
            yield

    def _keep(self, tokens: Tokens) -> Tokens:
        self.tokens = tokens
        if self.store is not None:
            try:
                self.store.keep(tokens)
            except OSError:
                # The old ones are used up: without a place for the new we go on with them, and try again.
                self._unkept, self._outdated = True, self.store.load()
            else:
                self._unkept, self._outdated = False, None
        return tokens

    async def _keep_late(self) -> None:
        """Keeps what could not be kept before, unless somebody else kept something meanwhile."""
        if not self._unkept or self.store is None:
            return
        with suppress(Unreachable):
            async with self._renewing, self._turn():
                if self.tokens is not None and self.store.load() == self._outdated:
                    self._keep(self.tokens)
                else:
                    self._unkept, self._outdated = False, None

    # --- calls ---

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: type[T],
        params: Mapping[str, str | int] | None = None,
        auth: bool = True,
        retry: bool | None = None,
    ) -> T:
        """One request and its typed answer.

        `retry`: whether doing it twice is harmless (default: all but POST); then it is tried for a while.
        Raises ChatError (what the server said) or Unreachable.
        """
        content = None if body is None else msgspec.json.encode(body)
        harmless = method != "POST" if retry is None else retry
        backoff = Backoff(self._rng)
        give_up_at = self._now() + self._retry_for_ms if harmless else 0
        while True:
            try:
                return await self._once(method, path, content, kind, params, auth)
            except Unreachable:
                wait_s = backoff.next_s()
                if self._now() + wait_s * 1000 >= give_up_at:
                    raise
            except ChatError as error:
                wait_s = backoff.next_s(error.retry_after_s)
                if not error.retryable or self._now() + wait_s * 1000 >= give_up_at:
                    raise
            await asyncio.sleep(wait_s)

    async def _once(  # noqa: PLR0917 - what `call` was given
        self,
        method: str,
        path: str,
        content: bytes | None,
        kind: type[T],
        params: Mapping[str, str | int] | None,
        auth: bool,
    ) -> T:
        headers = {} if content is None else {"content-type": "application/json"}
        used = None
        if auth:
            headers["authorization"] = f"Bearer {await self.access_token()}"
            used = self.tokens
        response = await self._request(method, path, content, params, headers)
        if response.status_code == 401 and used is not None:
            error = problem_of(response)
            if error.code not in (Code.TOKEN_EXPIRED, Code.UNAUTHENTICATED):
                raise error
            # The clocks differ or the keys were changed: renew once, then the server's word stands.
            headers["authorization"] = f"Bearer {(await self._renew(used)).access_token}"
            response = await self._request(method, path, content, params, headers)
        return _decoded(response, kind)

    async def _request(
        self,
        method: str,
        path: str,
        content: bytes | None,
        params: Mapping[str, str | int] | None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        try:
            return await self._http.request(
                method, self.base_url + path, content=content, params=params, headers=headers
            )
        except httpx.InvalidURL as error:
            raise Unreachable(f"not a URL: {self.base_url}") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"nothing answers at {self.base_url} ({reason})") from error

    async def seats(self, exclude: list[str] | None = None, region: str = "") -> Seats:
        """Discovery: the best seat and alternatives. Raises ChatError(NO_CAPACITY …) or Unreachable; no
        retries."""
        body: dict[str, Any] = {**_optional("region", region)}
        if exclude:
            body["exclude"] = exclude
        return await self.call("POST", "/v1/seats", body, kind=Seats)

    async def frames(self, frame: ClientFrame) -> list[ServerFrame]:
        """Any frame but hello and ping by HTTP, with the same idempotency. Raises ChatError or
        Unreachable."""
        raw = msgspec.Raw(encode_json(frame))
        answer = await self.call("POST", "/v1/frames", raw, kind=FramesAnswer, retry=True)
        return answer.frames


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    if response.status_code >= 400:
        raise problem_of(response)
    if kind is Nothing:
        return kind()
    try:
        return msgspec.json.decode(response.content, type=kind)
    except msgspec.DecodeError as error:
        detail = f"{response.url.host} does not answer as a chat cluster does ({error})"
        raise ChatError(Code.MALFORMED, detail) from error


def _newer(kept: Tokens, ours: Tokens | None) -> bool:
    """Whether what is kept replaced ours. Of another user, it is a log-in on another cluster."""
    if ours is None:
        return True
    return kept.user_id == ours.user_id and kept.refresh_token != ours.refresh_token


def _optional(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}
