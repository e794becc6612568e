"""The errors of a MongoDB server, as documented: their codes, names, and which of them a driver may retry."""

from __future__ import annotations

from enum import IntEnum

from support.mongo.wire import Document


class ErrorCode(IntEnum):
    """The names are the server's, in our spelling; see `src/mongo/base/error_codes.yml` of MongoDB."""

    INTERNAL_ERROR = 1
    BAD_VALUE = 2
    HOST_UNREACHABLE = 6
    FAILED_TO_PARSE = 9
    UNAUTHORIZED = 13
    TYPE_MISMATCH = 14
    AUTHENTICATION_FAILED = 18
    ILLEGAL_OPERATION = 20
    ALREADY_INITIALIZED = 23
    NAMESPACE_NOT_FOUND = 26
    INDEX_NOT_FOUND = 27
    CONFLICTING_UPDATE_OPERATORS = 40
    CURSOR_NOT_FOUND = 43
    NAMESPACE_EXISTS = 48
    MAX_TIME_MS_EXPIRED = 50
    COMMAND_NOT_FOUND = 59
    WRITE_CONCERN_TIMEOUT = 64
    IMMUTABLE_FIELD = 66
    CANNOT_CREATE_INDEX = 67
    SHARD_NOT_FOUND = 70
    INVALID_OPTIONS = 72
    INDEX_OPTIONS_CONFLICT = 85
    INDEX_KEY_SPECS_CONFLICT = 86
    NETWORK_TIMEOUT = 89
    SHUTDOWN_IN_PROGRESS = 91
    UNSATISFIABLE_WRITE_CONCERN = 100
    WRITE_CONFLICT = 112
    NAMESPACE_NOT_SHARDED = 118
    NOT_A_REPLICA_SET = 123
    READ_CONCERN_MAJORITY_NOT_AVAILABLE_YET = 134
    ZONE_NOT_FOUND = 177
    RANGE_OVERLAP_CONFLICT = 178
    PRIMARY_STEPPED_DOWN = 189
    TRANSACTION_TOO_OLD = 225
    EXCEEDED_TIME_LIMIT = 262
    SOCKET_EXCEPTION = 9001
    NOT_WRITABLE_PRIMARY = 10107
    DUPLICATE_KEY = 11000
    INTERRUPTED_AT_SHUTDOWN = 11600
    INTERRUPTED_DUE_TO_REPL_STATE_CHANGE = 11602
    NOT_PRIMARY_NO_SECONDARY_OK = 13435
    NOT_PRIMARY_OR_SECONDARY = 13436
    OUT_OF_DISK_SPACE = 14031

    @property
    def code_name(self) -> str:
        """`NOT_WRITABLE_PRIMARY` is `NotWritablePrimary` on the wire."""
        words = (word.capitalize() for word in self.name.split("_"))
        return "".join({"Ms": "MS"}.get(word, word) for word in words)


NOT_PRIMARY = frozenset(
    {
        ErrorCode.NOT_WRITABLE_PRIMARY,
        ErrorCode.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
        ErrorCode.NOT_PRIMARY_NO_SECONDARY_OK,
        ErrorCode.NOT_PRIMARY_OR_SECONDARY,
        ErrorCode.PRIMARY_STEPPED_DOWN,
        ErrorCode.SHUTDOWN_IN_PROGRESS,
        ErrorCode.INTERRUPTED_AT_SHUTDOWN,
    }
)
"""After these a driver looks for the primary anew."""

RETRYABLE_WRITE = NOT_PRIMARY | frozenset(
    {
        ErrorCode.HOST_UNREACHABLE,
        ErrorCode.NETWORK_TIMEOUT,
        ErrorCode.SOCKET_EXCEPTION,
        ErrorCode.EXCEEDED_TIME_LIMIT,
    }
)
"""What the server labels `RetryableWriteError` when the command carried a transaction number."""


class CommandError(Exception):
    """A command that is answered with `ok: 0`, or, in a batch, with an entry of `writeErrors`."""

    def __init__(self, code: ErrorCode | None, message: str, **fields: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = fields

    def answer(self) -> Document:
        """The whole answer of a command that failed."""
        named = {} if self.code is None else {"code": int(self.code), "codeName": self.code.code_name}
        return {"ok": 0.0, "errmsg": self.message, **named, **self.fields}

    def write_error(self, index: int) -> Document:
        """The entry for the statement at `index` of a batch."""
        code = ErrorCode.BAD_VALUE if self.code is None else self.code
        return {"index": index, "code": int(code), "errmsg": self.message, **self.fields}


def duplicate_key(namespace: str, index: str, pattern: Document, value: Document) -> CommandError:
    """E11000, with the fields that drivers hand on."""
    return CommandError(
        ErrorCode.DUPLICATE_KEY,
        f"E11000 duplicate key error collection: {namespace} index: {index} dup key: {value}",
        keyPattern=pattern,
        keyValue=value,
    )
