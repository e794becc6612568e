"""Who is there: hello, log-in, and what keeps a connection company."""

from __future__ import annotations

from support.mongo.commands.call import Call, Handler, done
from support.mongo.errors import CommandError, ErrorCode
from support.mongo.wire import Document

VERSION = "7.0.0"


def hello(call: Call) -> Document:
    """What the server is, and, in the first hello of a connection, the start of a log-in."""
    answer = call.server.role.hello() | call.connection.described()
    command = call.command
    if "helloOk" in command:
        answer["helloOk"] = True
    offered = command.get("compression", [])
    if "zlib" in offered:
        answer["compression"] = ["zlib"]
    if "saslSupportedMechs" in command:
        answer["saslSupportedMechs"] = ["SCRAM-SHA-256"]
    speculative = command.get("speculativeAuthenticate")
    if speculative is not None:
        started = _speculated(call, speculative)
        if started is not None:
            answer["speculativeAuthenticate"] = started
    return done(**answer)


def _speculated(call: Call, command: Document) -> Document | None:
    """The first step of a log-in ahead of time; one that fails is left out, and the client tries in earnest."""
    try:
        if "saslStart" in command:
            return call.connection.login.start(command)
        return call.connection.login.by_certificate(command)
    except CommandError:
        return None


def sasl_start(call: Call) -> Document:
    return done(**call.connection.login.start(call.command))


def sasl_continue(call: Call) -> Document:
    return done(**call.connection.login.go_on(call.command))


def authenticate(call: Call) -> Document:
    return done(**call.connection.login.by_certificate(call.command))


def nothing(_: Call) -> Document:
    return done()


def build_info(_: Call) -> Document:
    return done(version=VERSION, versionArray=[7, 0, 0, 0], maxBsonObjectSize=16 * 1024 * 1024)


def refuse_transaction(_: Call) -> Document:
    raise CommandError(ErrorCode.ILLEGAL_OPERATION, "the scripted server knows no transactions")


COMMANDS: dict[str, Handler] = {
    "hello": hello,
    "saslStart": sasl_start,
    "saslContinue": sasl_continue,
    "authenticate": authenticate,
    "ping": nothing,
    "endSessions": nothing,
    "logout": nothing,
    "buildInfo": build_info,
    "buildinfo": build_info,
    "commitTransaction": refuse_transaction,
    "abortTransaction": refuse_transaction,
}
