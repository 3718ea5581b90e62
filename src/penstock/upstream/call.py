"""One attempt: the vendor's request, its credential, the transport; and what a vendor's refusal means."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import lru_cache

from penstock.domain.events import UsageEvent
from penstock.domain.exchange import Admitted
from penstock.domain.http import Headers, header
from penstock.domain.snapshot import Credential, Provider
from penstock.errors import UpstreamCredential, UpstreamError, UpstreamMalformed, UpstreamRefused
from penstock.providers.base import Outgoing, Vendor, forwarded
from penstock.providers.registry import REFRAMING, TRADING, provider_for
from penstock.providers.rejections import Verdict, judge
from penstock.upstream.credentials import Credentials
from penstock.upstream.reframed import Reframed
from penstock.upstream.simulated import SimulatedTransport
from penstock.upstream.tokens import Tokens
from penstock.upstream.transport import Transport, UpstreamResponse

MAX_ERROR_BODY_BYTES = 1024 * 1024
MAX_PLAIN_BODY_BYTES = 64 * 1024 * 1024
LINGER_S = 0.25
"""How long a finished stream's connection may take to end cleanly before it is closed instead of kept."""

ANOTHER_TARGET_MAY_DO_BETTER = frozenset({401, 403, 407, 408, 409, 424, 425, 429, *range(500, 600)})


class Upstream:
    """Sends attempts to vendors. `http` is the transport for everything that has an address, `credentials` chooses with
    what a call goes."""

    def __init__(self, http: Transport, credentials: Credentials | None = None) -> None:
        self._http = http
        self.credentials = credentials or Credentials()
        self._tokens = Tokens(http, time.time)
        self._simulated: dict[str, tuple[Provider, SimulatedTransport]] = {}

    async def attempt(
        self,
        admission: Admitted,
        provider: Provider,
        credential: Credential | None,
        outgoing: Outgoing,
        draft: Callable[[], UsageEvent],
    ) -> UpstreamResponse:
        """Dispatches one attempt. `draft` makes the event that goes with the HOLD.
        Returns when the head of the answer is there; raises `UpstreamError`."""
        vendor = provider_for(provider.kind)
        if credential is not None and provider.kind in TRADING:
            credential = await self._tokens.instead_of(credential, TRADING[provider.kind])
        request = vendor.request(provider, credential, outgoing)
        request.headers.extend(forwarded(outgoing.headers, vendor.forwards))
        response = await self._transport(provider).send(request, lambda: admission.dispatch(draft()))
        if (reframing := REFRAMING.get(provider.kind)) is not None:
            reframer = reframing.reframer(outgoing, response.headers)
            return response if reframer is None else Reframed(response, reframer)
        return response

    def _transport(self, provider: Provider) -> Transport:
        if provider.kind != "simulated":
            return self._http
        known = self._simulated.get(provider.name)
        if known is None or known[0] is not provider:
            known = (provider, SimulatedTransport(provider))
            self._simulated[provider.name] = known
        return known[1]

    async def close(self) -> None:
        await self._http.close()


async def lingering(response: UpstreamResponse) -> AsyncIterator[bytes]:
    """What still comes of a finished stream, while its connection ends cleanly, so that it can be used again."""
    deadline = asyncio.get_running_loop().time() + LINGER_S
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                data = await response.read()
            if not data:
                return
            yield data
    except (TimeoutError, UpstreamError):
        response.abort()


async def linger(response: UpstreamResponse) -> None:
    """The same for a stream of which nothing more is told."""
    async for _ in lingering(response):
        pass


async def refusal(response: UpstreamResponse, vendor: Vendor) -> tuple[UpstreamError, Verdict]:
    """What a status of 300 or more means, and what it says of our credential. The vendor's body is read and kept for
    the caller; our credential's rejection is our fault and never shows the vendor's words, which may quote a part of
    the key."""
    status = response.status
    body = await response.read_all(MAX_ERROR_BODY_BYTES)
    verdict = judge(vendor, status, body)
    error: UpstreamError
    if verdict == "rejected":
        error = UpstreamCredential(
            "The provider rejected the gateway's credential. An operator must look at it.",
            [field for field in response.headers if field[0].endswith("request-id")],
        )
    elif status < 400:
        error = UpstreamMalformed(f"The provider answered with a redirect ({status}), which is not followed.")
    else:
        error = UpstreamRefused(status, response.headers, body)
    error.is_about_credential = bool(verdict)
    return error, verdict


def retry_after_s(headers: Headers) -> float | None:
    """When the vendor says to try again: whole seconds (RFC 9110, 10.2.3). A date is not looked at."""
    told = header(headers, "retry-after") or ""
    return float(told) if told.isascii() and told.isdigit() and len(told) < 7 else None


def may_do_better_elsewhere(error: UpstreamError) -> bool:
    """Whether another target is worth trying. A vendor's plain 4xx speaks of the request, which stays the same."""
    if isinstance(error, UpstreamRefused):
        return error.upstream_status in ANOTHER_TARGET_MAY_DO_BETTER
    return error.retry == "next"


_OURS = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "content-length", "content-encoding", "server", "date", "via", "alt-svc", "set-cookie", "set-cookie2"),
    *("strict-transport-security", "openai-organization", "openai-project"),
}


def passed_on(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The vendor's response headers that reach the caller: all but those of the connection (RFC 9110, 7.6.1), of the
    vendor's site, of the operator's account, and names that are ours. Its `x-request-id` goes as
    `x-upstream-request-id`."""
    named = header(headers, "connection")
    dropped = {name.strip().lower() for name in named.split(",")} if named else ()
    return [
        (passed, value.encode("latin-1"))
        for name, value in headers
        if (passed := _passed_name(name)) is not None and name not in dropped
    ]


@lru_cache(maxsize=1024)
def _passed_name(name: str) -> bytes | None:
    """What a header is called towards the caller; None when it does not pass."""
    if name == "x-request-id":
        return b"x-upstream-request-id"
    if name in _OURS or name.startswith(("x-penstock-", "access-control-")):
        return None
    return name.encode("latin-1")
