"""The one catalogue of errors and close codes: what a client may be told, and whether to try again.

Adapters translate what libraries raise into `ChatError`, with the cause chained.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec


class Code(StrEnum):
    MALFORMED = "malformed"
    INVALID_FIELD = "invalid_field"
    UNKNOWN_TYPE = "unknown_type"
    TOO_LARGE = "too_large"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_SLOW = "too_slow"
    NOT_FOUND = "not_found"
    CHANNEL_NOT_FOUND = "channel_not_found"
    MESSAGE_NOT_FOUND = "message_not_found"
    USER_NOT_FOUND = "user_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAUTHENTICATED = "unauthenticated"
    WRONG_CREDENTIALS = "wrong_credentials"
    TOKEN_EXPIRED = "token_expired"  # noqa: S105
    TOKEN_REUSED = "token_reused"  # noqa: S105
    TICKET_INVALID = "ticket_invalid"
    TICKET_EXPIRED = "ticket_expired"
    TICKET_USED = "ticket_used"
    TICKET_WRONG_POD = "ticket_wrong_pod"
    DEVICE_REVOKED = "device_revoked"
    ACCOUNT_SUSPENDED = "account_suspended"
    ACCOUNT_ERASED = "account_erased"
    FORBIDDEN = "forbidden"
    BANNED = "banned"
    BLOCKED = "blocked"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    CONFLICT = "conflict"
    USERNAME_TAKEN = "username_taken"
    LIMIT_REACHED = "limit_reached"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    NO_CAPACITY = "no_capacity"
    DRAINING = "draining"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    STORAGE_FULL = "storage_full"
    STORAGE_DAMAGED = "storage_damaged"
    REDIS_UNAVAILABLE = "redis_unavailable"
    INTERNAL = "internal"


class ErrorSpec(msgspec.Struct, frozen=True):
    """What the catalogue says of a code: the HTTP status, whether the same request may succeed later, meaning."""

    status: int
    retryable: bool
    meaning: str


CATALOGUE: dict[Code, ErrorSpec] = {
    Code.MALFORMED: ErrorSpec(400, False, "The bytes are not a frame or a JSON document"),
    Code.INVALID_FIELD: ErrorSpec(422, False, "A field is missing, of the wrong type, or outside its limit"),
    Code.UNKNOWN_TYPE: ErrorSpec(400, False, "No such frame type"),
    Code.TOO_LARGE: ErrorSpec(413, False, "The frame or body is larger than the limit"),
    Code.HEAD_TOO_LARGE: ErrorSpec(431, False, "URL and headers are larger than the limit"),
    Code.TOO_SLOW: ErrorSpec(408, True, "The request did not arrive in time"),
    Code.NOT_FOUND: ErrorSpec(404, False, "No such thing, or not yours to see"),
    Code.CHANNEL_NOT_FOUND: ErrorSpec(404, False, "No such channel, or you are not in it"),
    Code.MESSAGE_NOT_FOUND: ErrorSpec(404, False, "No such message in this channel, or not yours to see"),
    Code.USER_NOT_FOUND: ErrorSpec(404, False, "No such user"),
    Code.METHOD_NOT_ALLOWED: ErrorSpec(405, False, "The resource has no such method"),
    Code.UNAUTHENTICATED: ErrorSpec(401, False, "No valid access token"),
    Code.WRONG_CREDENTIALS: ErrorSpec(401, False, "User name or password is wrong"),
    Code.TOKEN_EXPIRED: ErrorSpec(401, False, "The token has expired: refresh it or log in"),
    Code.TOKEN_REUSED: ErrorSpec(401, False, "A refresh token was used twice: its device is logged out"),
    Code.TICKET_INVALID: ErrorSpec(401, False, "The ticket is not one of this cluster's"),
    Code.TICKET_EXPIRED: ErrorSpec(401, False, "The ticket has expired: ask for a new seat"),
    Code.TICKET_USED: ErrorSpec(401, False, "The ticket was used before: ask for a new seat"),
    Code.TICKET_WRONG_POD: ErrorSpec(401, False, "The ticket is for another pod: ask for a new seat"),
    Code.DEVICE_REVOKED: ErrorSpec(401, False, "This device was logged out"),
    Code.ACCOUNT_SUSPENDED: ErrorSpec(403, False, "This account is suspended"),
    Code.ACCOUNT_ERASED: ErrorSpec(403, False, "This account was erased"),
    Code.FORBIDDEN: ErrorSpec(403, False, "Your role does not allow this"),
    Code.BANNED: ErrorSpec(403, False, "You are banned from this channel"),
    Code.BLOCKED: ErrorSpec(403, False, "One of the two has blocked the other"),
    Code.ORIGIN_NOT_ALLOWED: ErrorSpec(403, False, "This web origin may not use this service"),
    Code.CONFLICT: ErrorSpec(409, False, "The state of the thing does not allow this"),
    Code.USERNAME_TAKEN: ErrorSpec(409, False, "The user name is taken"),
    Code.LIMIT_REACHED: ErrorSpec(409, False, "A limit on how many there may be is reached"),
    Code.RATE_LIMITED: ErrorSpec(429, True, "Too many requests: wait as told"),
    Code.BUSY: ErrorSpec(503, True, "A queue is full: wait as told"),
    Code.NO_CAPACITY: ErrorSpec(503, True, "No chat pod has a free seat: wait as told"),
    Code.DRAINING: ErrorSpec(503, True, "The pod is going: ask for a new seat"),
    Code.STORAGE_UNAVAILABLE: ErrorSpec(
        503, True, "The store does not answer; the outcome is resolved by a resend"
    ),
    Code.STORAGE_FULL: ErrorSpec(503, True, "The store has no space left"),
    Code.STORAGE_DAMAGED: ErrorSpec(500, False, "The store's data is damaged: a person has to mend it"),
    Code.REDIS_UNAVAILABLE: ErrorSpec(503, True, "Redis does not answer"),
    Code.INTERNAL: ErrorSpec(500, True, "A fault of the server's own; it is in the server's log"),
}


class Close(IntEnum):
    """WebSocket close codes. 4xxx are ours; `RESUMABLE` says after which of them a client reconnects."""

    NORMAL = 1000
    GOING_AWAY = 1001
    MALFORMED = 1007
    POLICY = 1008
    TOO_LARGE = 1009
    INTERNAL = 1011
    RESTARTING = 1012
    NO_CAPACITY = 1013
    HELLO_TIMEOUT = 4000
    TICKET_REFUSED = 4001
    DEVICE_REVOKED = 4003
    SLOW_CONSUMER = 4008
    LEASE_LOST = 4009
    MIGRATED = 4010
    HEARTBEAT_TIMEOUT = 4011
    REPLACED = 4012
    RATE_LIMITED = 4029


RESUMABLE = frozenset(
    {
        Close.GOING_AWAY,
        Close.INTERNAL,
        Close.RESTARTING,
        Close.NO_CAPACITY,
        Close.HELLO_TIMEOUT,
        Close.TICKET_REFUSED,
        Close.SLOW_CONSUMER,
        Close.LEASE_LOST,
        Close.MIGRATED,
        Close.HEARTBEAT_TIMEOUT,
        Close.RATE_LIMITED,
    }
)


class ChatError(Exception):
    """An error of the catalogue. `detail` is a sentence for a person and never holds message text or secrets."""

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        field: str | None = None,
        limit: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail or CATALOGUE[code].meaning}")
        self.code = code
        self.detail = detail or CATALOGUE[code].meaning
        self.field = field
        self.limit = limit
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return CATALOGUE[self.code].status

    @property
    def retryable(self) -> bool:
        return CATALOGUE[self.code].retryable


class StoreRefuses(ChatError):
    """The store answers, and does not let us in or has not what we are to use. For clients it is away like any other
    that is; but a person has to see to it."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.STORAGE_UNAVAILABLE, detail)


def invalid(field: str, detail: str, limit: int | None = None) -> ChatError:
    """A refused field, naming it and its limit."""
    return ChatError(Code.INVALID_FIELD, f"{field}: {detail}", field=field, limit=limit)
