"""aiohttp's errors in modelcask's words.

Its own text is never passed on: much of it holds the full URL, and with it a signature or a key.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
from aiohttp.http import HttpProcessingError

from modelcask.errors import (
    CacheError,
    ConnectionInterruptedError,
    PolicyError,
    ResponseError,
    TransferTimeoutError,
)
from modelcask.printable import SafeURL, display

EDGE_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError, asyncio.TimeoutError)
"""What a request or a read may raise, and ``translated`` takes. Never CancelledError."""


class RefusedAddressError(OSError):
    """Say that no address of a host may be connected. One text for all, so that aiohttp keeps the type."""

    def __init__(self) -> None:
        super().__init__("address refused")


def cause_of(error: Exception) -> BaseException | None:
    """Return what may stand in a traceback in place of ``error``: the error itself unless it holds a URL."""
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL, aiohttp.ConnectionTimeoutError)):
        return error.__cause__
    return error


def translated(error: Exception, url: SafeURL) -> CacheError:
    """Return the error that a caller of ``modelcask.net`` gets for one of ``EDGE_ERRORS``."""
    match error:
        case aiohttp.ClientConnectorError():
            return _unconnected(error, url)
        case asyncio.TimeoutError():
            early = isinstance(error, aiohttp.ConnectionTimeoutError)
            return TransferTimeoutError(
                f"{url}: {'no connection' if early else 'no more bytes'} in time; try again later"
            )
        case aiohttp.InvalidURL():
            return PolicyError(f"{url} cannot be requested; write its address in full, as four plain numbers")
        case aiohttp.ClientResponseError():
            return _no_answer(error, url)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return ConnectionInterruptedError(f"{url}: the connection ended before the last byte; try again")
        case _:
            reason = display(getattr(error, "strerror", None) or "no reason given")
            return ConnectionInterruptedError(f"{url}: the connection broke ({reason}); try again")


def _unconnected(error: aiohttp.ClientConnectorError, url: SafeURL) -> CacheError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = ConnectionInterruptedError(
            f"{url}: the server's certificate does not hold ({display(str(error.certificate_error))}); if the server "
            "belongs to your own network, name its authority in MODELCASK_CA_FILE"
        )
        refused.retryable = False
        return refused
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionInterruptedError(f"{url}: the host name is not known; check it, and the network")
    if isinstance(error.os_error, RefusedAddressError):
        return PolicyError(
            f"a redirect to {url} leads inside a private network: refused; if you trust that place, "
            "pull from it by its own URL"
        )
    reason = display(error.os_error.strerror or "it failed")
    return ConnectionInterruptedError(
        f"{url}: no connection ({reason}); check host, port and network, or try again later"
    )


def _no_answer(error: aiohttp.ClientResponseError, url: SafeURL) -> ResponseError:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ResponseError(
            f"{url}: the proxy refused the connection with {error.status}; check it, or except the host in NO_PROXY",
            status=error.status,
            retryable=error.status >= 500,  # noqa: PLR2004 - the class of server errors
        )
    return ResponseError(
        f"{url}: the answer is not valid HTTP; check scheme and port of the URL, and any proxy on the way",
        status=error.status,
        retryable=False,
    )
