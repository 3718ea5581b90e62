"""A response that comes in another form than the dialect's: told in the dialect's own."""

from penstock.domain.http import Headers
from penstock.providers.base import Reframer
from penstock.upstream.transport import UpstreamResponse


class Reframed:
    """An `UpstreamResponse` whose bytes go through a `Reframer`."""

    def __init__(self, response: UpstreamResponse, reframer: Reframer) -> None:
        self._response = response
        self._reframer = reframer
        others = [field for field in response.headers if field[0] != "content-type"]
        self._headers: Headers = [*others, ("content-type", reframer.content_type)]

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return self._headers

    async def read(self) -> bytes:
        while data := await self._response.read():
            if told := self._reframer.feed(data):
                return told
        self._reframer.close()
        return b""

    async def read_all(self, limit_bytes: int) -> bytes:
        told = self._reframer.feed(await self._response.read_all(limit_bytes))
        self._reframer.close()
        return told

    def abort(self) -> None:
        self._response.abort()

    def unread(self) -> bytes:
        return self._reframer.feed(self._response.unread())
