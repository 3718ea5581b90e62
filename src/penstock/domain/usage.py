"""Usage: what a call consumed, counted once, in disjoint classes.

Every token is in exactly one priced class. `input` excludes cache reads, cache writes and audio; `output` includes
reasoning (`reasoning` is a part of it, kept for information) and excludes audio. Tokens of pictures and films are a
part of `input` or `output`, and priced apart from the rest of it where a vendor does so.
"""

from collections.abc import Iterator

from msgspec import Struct, field

PARTS = {"image_in": "input", "video_in": "input", "image_out": "output", "video_out": "output"}
"""Classes that are a part of another."""

METERS = (
    "input",
    "cache_read",
    "cache_write:5m",
    "cache_write:1h",
    "audio_in",
    "output",
    "audio_out",
    "images",
    "web_searches",
    *PARTS,
)
"""The meters a rate card can price. A cache write of another lifetime is metered as `cache_write:<lifetime>`."""


class Usage(Struct, frozen=True, omit_defaults=True):
    """Counts in tokens (`images`, `requests` and `web_searches` in pieces), all >= 0. `web_searches`: those that the
    vendor ran and charges apiece."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: dict[str, int] = field(default_factory=dict)
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    images: int = 0
    requests: int = 1
    web_searches: int = 0
    image_in: int = 0
    video_in: int = 0
    image_out: int = 0
    video_out: int = 0

    @property
    def total_input(self) -> int:
        """Every token that went in, cached or not: what price tiers and context windows count."""
        return self.input + self.cache_read + self.audio_in + sum(self.cache_write.values())

    @property
    def total_output(self) -> int:
        return self.output + self.audio_out

    def plus(self, other: "Usage") -> "Usage":
        """The sum of both, class by class."""
        written = dict(self.cache_write)
        for lifetime, count in other.cache_write.items():
            written[lifetime] = written.get(lifetime, 0) + count
        return Usage(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=written,
            reasoning=self.reasoning + other.reasoning,
            audio_in=self.audio_in + other.audio_in,
            audio_out=self.audio_out + other.audio_out,
            images=self.images + other.images,
            requests=self.requests + other.requests,
            web_searches=self.web_searches + other.web_searches,
            image_in=self.image_in + other.image_in,
            video_in=self.video_in + other.video_in,
            image_out=self.image_out + other.image_out,
            video_out=self.video_out + other.video_out,
        )

    def metered(self) -> Iterator[tuple[str, int]]:
        """`(meter, quantity)` for each class with something in it that is no part of another."""
        if self.input:
            yield "input", self.input
        if self.cache_read:
            yield "cache_read", self.cache_read
        for lifetime, count in self.cache_write.items():
            if count:
                yield f"cache_write:{lifetime}", count
        if self.audio_in:
            yield "audio_in", self.audio_in
        if self.output:
            yield "output", self.output
        if self.audio_out:
            yield "audio_out", self.audio_out
        if self.images:
            yield "images", self.images
        if self.web_searches:
            yield "web_searches", self.web_searches
