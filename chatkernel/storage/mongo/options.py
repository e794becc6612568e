"""The options of a MongoDB URL: what is refused before anything is connected, by a sentence that says why.

The driver warns of options that it does not take, and goes on without them: here a cluster would run without TLS or
without its compression and nobody would know. No sentence has a value in it, for any of them may be a secret; of
names only those that the driver knows, for a password that was not escaped may look like one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from pymongo.errors import InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from chatkernel.errors import ChatError, Code

STALENESS_MIN_S = 90
"""Secondaries tell how far they are only every ten seconds: the driver takes no closer bound."""
STALENESS_MARGIN_S = 10
"""Above the heartbeat of the driver's monitors."""
HEARTBEAT_S = 10.0
"""The driver's own; it turns `heartbeatFrequencyMS` into seconds."""
"""The driver's default."""

COMPRESSORS = {
    "zlib": "Python was built without zlib",
    "snappy": "install the package python-snappy (pip install 'pymongo[snappy]')",
    "zstd": "install the package backports.zstd (pip install 'pymongo[zstd]')",
}
"""By name what to do where it is missing."""

_NAMES = """
appname authmechanism authmechanismproperties authsource compressors connecttimeoutms directconnection
heartbeatfrequencyms journal loadbalanced localthresholdms maxconnecting maxidletimems maxpoolsize
maxstalenessseconds minpoolsize readconcernlevel readpreference readpreferencetags replicaset retryreads
retrywrites servermonitoringmode serverselectiontimeoutms serverselectiontryonce sockettimeoutms
srvmaxhosts srvservicename ssl timeoutms tls tlsallowinvalidcertificates tlsallowinvalidhostnames
tlscafile tlscertificatekeyfile tlscertificatekeyfilepassword tlscrlfile tlsdisableocspendpointcheck
tlsinsecure w waitqueuetimeoutms wtimeoutms zlibcompressionlevel
"""
KNOWN = frozenset(_NAMES.split())
"""In small letters."""


def refused(reason: str) -> ChatError:
    return ChatError(Code.INVALID_FIELD, f"store_url: {reason}", field="store_url")


def why(error: OSError) -> str:
    """The system's words: the driver's own may have a path in them."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def options_of(url: str) -> Mapping[str, Any]:
    """By their names in small letters. Raises ChatError(INVALID_FIELD)."""
    pairs = [pair for pair in url.partition("?")[2].split("&") if pair]
    for pair in pairs:
        _check_alone(pair)
    try:
        parsed = _parsed(url)
    except InvalidURI as error:
        raise refused("not a MongoDB URL (user and password are written as in any URL: @ is %40)") from error
    except (PyMongoError, ValueError, TypeError) as error:
        raise refused("an option does not go with the others, or with the hosts") from error
    except OSError as error:
        raise refused(f"a file that an option names cannot be read ({why(error)})") from error
    options = {name.lower(): value for name, value in parsed["options"].items()}
    _check_together(options)
    return options


def _parsed(url: str) -> Mapping[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would warn of is refused here
        return parse_uri(url, validate=True, warn=False)


def _check_alone(pair: str) -> None:
    """One `name=value`, as if it were the only one. Raises ChatError(INVALID_FIELD)."""
    name, _, value = pair.partition("=")
    if name.lower() not in KNOWN:
        raise refused("an option is not known (names are as in MongoDB's manual)")
    try:
        options = _parsed(f"mongodb://host/?{pair}")["options"]
    except (PyMongoError, ValueError, TypeError) as error:
        raise refused(f"{name} is not valid") from error
    except OSError as error:
        raise refused(f"{name}: the file cannot be read ({why(error)})") from error
    if name.lower() == "compressors":
        taken: list[str] = next(iter(options.values()), [])
        for compressor in value.split(","):
            if compressor not in COMPRESSORS:
                raise refused(f"compressors are {', '.join(COMPRESSORS)}")
            if compressor not in taken:
                raise refused(f"compressors: for {compressor} {COMPRESSORS[compressor]}")


def _check_together(options: Mapping[str, Any]) -> None:
    """Raises ChatError(INVALID_FIELD)."""
    if options.get("timeoutms") == 0:
        raise refused("timeoutMS 0 would wait for ever for a server that stands still")
    if options.get("authmechanism") == "MONGODB-X509" and "tlscertificatekeyfile" not in options:
        raise refused("MONGODB-X509 needs tlsCertificateKeyFile: the certificate is the log-in")
    staleness = options.get("maxstalenessseconds", -1)
    least = least_staleness_s(options)
    if 0 <= staleness < least:
        raise refused(f"maxStalenessSeconds is at least {least:g}")


def least_staleness_s(options: Mapping[str, Any]) -> float:
    """The smallest `maxStalenessSeconds` that the driver takes with these options."""
    heartbeat_s: float = options.get("heartbeatfrequencyms", HEARTBEAT_S)
    return max(STALENESS_MIN_S, heartbeat_s + STALENESS_MARGIN_S)
