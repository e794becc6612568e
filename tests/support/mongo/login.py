"""Log-in as a MongoDB server has it: SCRAM-SHA-256 (RFC 7677), and X.509 by the certificate of the connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field

from bson import Binary
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

ITERATIONS = 4096
"""The fewest that drivers accept: these passwords guard nothing."""


@dataclass(frozen=True, slots=True)
class Users:
    """Who may log in. With none, everybody may do everything, as on a server without access control."""

    passwords: dict[str, str] = field(default_factory=dict)
    subjects: frozenset[str] = frozenset()
    """Subjects of client certificates, as `CN=...,O=...`."""

    @property
    def needed(self) -> bool:
        return bool(self.passwords or self.subjects)


def _refused() -> CommandError:
    """One answer whatever was wrong, so that nobody learns which names there are."""
    return CommandError(ErrorCode.AUTHENTICATION_FAILED, "Authentication failed.")


@dataclass(slots=True)
class Login:
    """The log-in of one connection."""

    users: Users
    subject: str | None = None
    """Of the client's certificate, once TLS has checked it."""
    user: str | None = None
    """Who has logged in."""
    _claimed: str = ""
    _first: bytes = b""
    _salt: bytes = b""
    _nonce: str = ""
    _proven: bool = False

    def start(self, command: Document) -> Document:
        """The client's name and nonce; we answer with salt and a longer nonce."""
        if command.get("mechanism") != "SCRAM-SHA-256":
            raise _refused()
        message = bytes(command["payload"]).decode()
        bare = message.partition(",,")[2]
        fields = dict(re.findall(r"(\w)=([^,]*)", bare))
        self._claimed = fields["n"].replace("=2C", ",").replace("=3D", "=")
        self._nonce = fields["r"] + base64.b64encode(os.urandom(18)).decode()
        self._salt = os.urandom(16)
        answer = f"r={self._nonce},s={base64.b64encode(self._salt).decode()},i={ITERATIONS}".encode()
        self._first = bare.encode() + b"," + answer
        return {"conversationId": 1, "done": False, "payload": Binary(answer)}

    def go_on(self, command: Document) -> Document:
        """The client's proof; we answer with ours. Clients that want an empty last exchange get it."""
        payload = bytes(command["payload"])
        if self._proven and not payload:
            self.user = self._claimed
            return {"conversationId": 1, "done": True, "payload": Binary(b"")}
        without_proof, _, proof = payload.rpartition(b",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self._password(), self._salt, ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signed = self._first + b"," + without_proof
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        right_nonce = without_proof.endswith(b",r=" + self._nonce.encode())
        if not (right_nonce and self._claimed in self.users.passwords):
            raise _refused()
        if not hmac.compare_digest(expected, base64.b64decode(proof)):
            raise _refused()
        self._proven = True
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        verifier = base64.b64encode(hmac.digest(server_key, signed, "sha256"))
        return {"conversationId": 1, "done": False, "payload": Binary(b"v=" + verifier)}

    def by_certificate(self, command: Document) -> Document:
        """The certificate is the log-in."""
        if command.get("mechanism") != "MONGODB-X509" or self.subject not in self.users.subjects:
            raise _refused()
        if command.get("user", self.subject) != self.subject:
            raise _refused()
        self.user = self.subject
        return {"dbname": "$external", "user": self.subject}

    def _password(self) -> bytes:
        return self.users.passwords.get(self._claimed, os.urandom(8).hex()).encode()
