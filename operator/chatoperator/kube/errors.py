"""What the API server refuses, as errors of ours: made in one place, the client."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from chatoperator.place import PlaceError

RETRY_AFTER_S = 1.0
"""When the API server is too busy and does not say for how long."""


class KubeError(PlaceError):
    """The API server said no, or nothing. `str()` is its sentence."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(KubeError):
    """No answer, or one that says that the API server itself is not well: nothing is known of the outcome."""


class NotFound(KubeError):
    """There is no such object, or no such kind."""


class Conflict(KubeError):
    """It exists already, is another one (UID), or was changed meanwhile."""


class Expired(KubeError):
    """The place in the stream of changes is no longer remembered: list again."""


class Forbidden(KubeError):
    """The operator may not do this: its Role is too small, or an admission rule forbids it."""


class QuotaExceeded(Forbidden):
    """A ResourceQuota leaves no room."""


ABSENT = (NotFound, Forbidden)
"""Of a kind as a whole: the API server does not have it, or the operator may not see it."""


class Invalid(KubeError):
    """The object is refused as it is: asking again cannot help until it is another."""


class Foreign(KubeError):
    """What has the name of an object of ours is somebody else's: it is left as it is."""


class TooManyRequests(KubeError):
    """The API server is too busy."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, 429)
        self.retry_after_s = retry_after_s


class NotLeading(KubeError):
    """This process does not hold the Lease (any more): whatever it was about to do is another's to do."""


class _Status(Struct):
    """Kubernetes' `Status`, what is read of it."""

    message: str = ""
    reason: str = ""


SAID_MAX_CHARS = 400
"""Of what the API server says, this much goes into conditions, events and logs."""

_PLAIN: Mapping[int, type[KubeError]] = {
    400: Invalid,
    401: Forbidden,
    404: NotFound,
    405: NotFound,
    409: Conflict,
    410: Expired,
    422: Invalid,
}


def error_of(what: str, status: int, body: bytes, retry_after: str | None) -> KubeError:
    """The error that an answer means. `what` is the request, in words."""
    try:
        said = msgspec.json.decode(body, type=_Status)
    except msgspec.DecodeError:
        said = _Status(body[:200].decode(errors="replace"))
    message = f"{what}: {_shortened(said.message or said.reason or str(status))}"
    if status == 429:
        return TooManyRequests(message, seconds_of(retry_after))
    if status == 403:
        return (QuotaExceeded if "exceeded quota" in said.message else Forbidden)(message, status)
    return _PLAIN.get(status, Unreachable)(message, status)


def _shortened(said: str) -> str:
    """A refusal quotes the whole value that is refused, between what it is about and why."""
    if len(said) <= SAID_MAX_CHARS:
        return said
    return f"{said[: SAID_MAX_CHARS // 2]} ... {said[-SAID_MAX_CHARS // 2 :]}"


def seconds_of(retry_after: str | None) -> float:
    """A Retry-After header; Kubernetes writes whole seconds."""
    try:
        return max(0.0, float(retry_after or ""))
    except ValueError:
        return RETRY_AFTER_S
