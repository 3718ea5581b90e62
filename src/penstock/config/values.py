"""The kinds of value that settings are made of: names, durations, money, addresses, references.

Each is an annotated type for the models of `settings`; a wrong value raises ValueError whose text is the fault.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from penstock.config.environment import check_reference, vault_name
from penstock.config.place import HOST, is_listen_address
from penstock.domain.money import MAX_NANOUSD, NANO
from penstock.domain.policy import MATCHABLE
from penstock.domain.tags import MAX_TAG_VALUE, is_tag_name, is_tag_value
from penstock.errors import ConfigError

MAX_NAME = 128
MAX_DURATION_MS = 24 * 3600 * 1000
MAX_GRACE_MS = 90 * MAX_DURATION_MS
SHOWN_CHARACTERS = 60
STORE_SETTINGS = ("host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout")
"""What may stand behind the `?` of a PostgreSQL address; libpq's words."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SPAN = re.compile(r"([0-9]{1,6})([hdw])", re.ASCII)
_UNIT_S = {"h": 3_600, "d": 86_400, "w": 7 * 86_400}
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_HEADER = re.compile(r"[a-z0-9-]+")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": MAX_DURATION_MS}
OWN_HEADERS = {
    "authorization",
    "api-key",
    "x-api-key",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def shown(value: object) -> str:
    """A value of the operator's as a fault repeats it: quoted, escaped and short."""
    text = str(value)
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def name(value: object) -> str:
    """The name of an object: up to 128 letters, digits, dots, underscores and hyphens, a letter or digit first."""
    return _named(value, _NAME, "letters, digits and . _ -")


def model_name(value: object) -> str:
    """A model's name, the gateway's or the vendor's: like a name, with : @ / + as well."""
    return _named(value, _MODEL, "letters, digits and . _ : @ / + -")


def alias_name(value: object) -> str:
    """A model's name, or `provider/*`."""
    text = _text(value)
    if text.endswith("/*"):
        return f"{name(text[:-2])}/*"
    return model_name(text)


def tag_value(value: object) -> str:
    """What a tag, a customer or a user can be: 1 to 256 printable characters without comma or equals sign."""
    text = _text(value)
    if not is_tag_value(text):
        raise ValueError(f"must be 1 to {MAX_TAG_VALUE} printable characters without ',' and '='")
    return text


def store_address(value: object) -> str:
    """`sqlite`, or `postgresql://[user@]host[:port]/database[?setting=value]`. A fault does not repeat it, because
    there may be a password in it."""
    text = _text(value)
    if text == "sqlite":
        return text
    if not text.startswith("postgresql://"):
        raise ValueError("must be sqlite (a file in the data directory) or postgresql://user@host/database")
    try:
        parts = urlsplit(text)
        _ = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError("cannot be read: write postgresql://user@host:port/database") from None
    if parts.password or "password" in dict(query):
        raise ValueError("must not hold a password: set PGPASSWORD or PGPASSFILE in the gateway's environment")
    for setting, _ in query:
        if setting not in STORE_SETTINGS:
            raise ValueError(f"{shown(setting)} is not a setting here: use {', '.join(STORE_SETTINGS)}")
    if len(parts.path) < 2 or parts.fragment:
        raise ValueError("names no database: write postgresql://user@host:port/database")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - a fault of the file, gathered by pydantic
    return value


def _named(value: object, pattern: re.Pattern[str], characters: str) -> str:
    text = _text(value)
    if len(text) > MAX_NAME:
        raise ValueError(f"must be no longer than {MAX_NAME} characters")
    if not pattern.fullmatch(text):
        raise ValueError(f"{shown(text)} is not a name: use {characters}, beginning with a letter or digit")
    return text


def number(value: object) -> Decimal:
    """A number as written, exact."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number such as 5 or 0.25")  # noqa: TRY004
    exact = Decimal(str(value))
    if not exact.is_finite():
        raise ValueError("must be a number such as 5 or 0.25")
    return exact


def nanousd(dollars: Decimal) -> int:
    """Dollars as whole nano-dollars. Raises ValueError for a fraction of one, or more than an int64 holds."""
    amount = dollars * NANO
    if amount != amount.to_integral_value():
        raise ValueError("has more than nine decimal places; the smallest amount is 0.000000001 USD")
    if amount > MAX_NANOUSD:
        raise ValueError(f"must be no more than {MAX_NANOUSD // NANO} USD")
    return int(amount)


def amount_in(unit: object, value: object) -> int:
    """More than 0: dollars as whole nano-dollars for `usd`, else a whole number."""
    amount = number(value)
    if amount <= 0:
        raise ValueError("must be more than 0")
    if unit == "usd":
        return nanousd(amount)
    if amount > MAX_NANOUSD:
        raise ValueError(f"must be no more than {MAX_NANOUSD}")
    if amount != amount.to_integral_value():
        raise ValueError("must be a whole number; only limits in usd have fractions")
    return int(amount)


def time_zone(value: object) -> str:
    """An IANA name, such as Europe/Berlin, that this system knows."""
    text = _text(value)
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {shown(text)}; write one such as Europe/Berlin or UTC") from None
    return text


def price(value: object) -> Decimal:
    """USD per million units, or per request: zero or more, in whole nano-dollars."""
    amount = number(value)
    if amount < 0:
        raise ValueError("must not be negative")
    nanousd(amount)
    return amount


def duration_ms(value: object) -> int:
    """`5s`, `300ms`, `2m`, or a plain number of seconds, in whole milliseconds: more than nothing, at most a day."""
    amount = _milliseconds(value)
    if amount != amount.to_integral_value() or not 0 < amount <= MAX_DURATION_MS:
        raise ValueError("must be a whole number of milliseconds, more than 0 and at most 24 hours")
    return int(amount)


def span_s(value: object) -> int:
    """`90d`, `36h` or `8w`, in whole seconds: an hour to ten years."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a span such as 90d, 36h or 8w")
    seconds = int(match[1]) * _UNIT_S[match[2]]
    if not 3_600 <= seconds <= 3_650 * 86_400:
        raise ValueError("must be an hour or more, and at most ten years")
    return seconds


def grace_ms(value: object) -> int:
    """As `duration_ms`, or `7d`: from nothing to 90 days."""
    amount = _milliseconds(value)
    if amount != amount.to_integral_value() or not 0 <= amount <= MAX_GRACE_MS:
        raise ValueError("must be a whole number of milliseconds, at most 90 days")
    return int(amount)


def _milliseconds(value: object) -> Decimal:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError(f"{shown(value)} is not a duration: write 300ms, 5s, 2m or 24h")
        return Decimal(match[1]) * _UNIT_MS[match[2]]
    return number(value) * 1000


def cidr(value: object) -> str:
    """A network such as 10.0.0.0/8 or 2001:db8::/32; a single address is one as well."""
    text = _text(value)
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network: write 10.0.0.0/8, without bits behind it") from None


def fraction(value: object) -> float:
    """More than 0 and at most 1."""
    amount = number(value)
    if not 0 < amount <= 1:
        raise ValueError("must be more than 0 and at most 1 (0.8 is 80 %)")
    return float(amount)


def listen_address(value: object) -> str:
    """`host:port`; an IPv6 host stands in brackets."""
    text = _text(value)
    if not is_listen_address(text):
        raise ValueError(f"{shown(text)} is not an address: write host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return text


def base_url(value: object) -> str:
    """`http(s)://host[:port][/path]`, without credentials, query or fragment; a closing slash is dropped."""
    text = _text(value)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: write http(s)://host[:port][/path]") from None
    if "@" in parts.netloc:
        raise ValueError("must not hold credentials: they go into `credentials`, as env: or file: references")
    host = parts.netloc if port is None else parts.netloc.rpartition(":")[0]
    if parts.scheme not in {"http", "https"} or not HOST.fullmatch(host) or port == 0:
        raise ValueError("is not a URL: write http(s)://host[:port][/path]")
    if "?" in text or "#" in text:
        raise ValueError("must not have a query or a fragment")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("must be printable ASCII without spaces")
    return text.rstrip("/")


def header_fields(value: object) -> dict[str, str]:
    """Extra request headers: lower-case names that are not the gateway's own, values of one printable ASCII line."""
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of header names to values")  # noqa: TRY004
    for field, content in value.items():
        if not _HEADER.fullmatch(field):
            raise ValueError(f"{shown(field)} is not a header name in lower case")
        if field in OWN_HEADERS:
            raise ValueError(f"the header {field} is the gateway's own to write")
        if not isinstance(content, str) or not (content.isascii() and content.isprintable()):
            raise ValueError(f"the header {field} must be one line of printable ASCII text; put it in quotes")
    return value


def reference(value: object) -> str:
    """`env:NAME` or `file:PATH`."""
    if not isinstance(value, str):
        raise ValueError("must be env:NAME or file:PATH; a secret never stands in the file itself")  # noqa: TRY004
    try:
        check_reference(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return value


def credential_reference(value: object) -> str:
    """`env:NAME`, `file:PATH` or `vault:NAME`."""
    if isinstance(value, str) and (entry := vault_name(value)) is not None:
        name(entry)
        return value
    return reference(value)


def moment(value: object) -> datetime:
    """An RFC 3339 date and time with its offset."""
    text = _text(value)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a time: write 2026-12-31T00:00:00Z") from None
    if parsed.tzinfo is None:
        raise ValueError("needs its offset from UTC: write 2026-12-31T00:00:00Z")
    return parsed.astimezone(UTC)


def day(value: object) -> datetime:
    """A day such as 2026-12-31, which is its first moment in UTC, or an RFC 3339 time."""
    text = _text(value)
    return moment(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)


def each_dimension(value: object) -> str:
    """A dimension whose values get a balance each, or `tag:<name>`."""
    text = _text(value)
    if text.startswith("tag:") and is_tag_name(text[4:]):
        return text
    if text not in MATCHABLE:
        raise ValueError(f"{shown(text)} is not known here; available: {', '.join(MATCHABLE)}, tag:NAME")
    return text


def one_of(*available: str, later: tuple[str, ...] = (), more: tuple[str, ...] = (), told: str = "") -> BeforeValidator:
    """Text that is one of `available`, or of the many `more`, which a fault tells in the words of `told`. What comes in
    a later release says so."""

    def check(value: object) -> object:
        if value in available or value in more:
            return value
        choices = "available: " + ", ".join([*available, *([told] if told else [])])
        if isinstance(value, str) and value in later:
            raise ValueError(f"{shown(value)} is not available in this release; {choices}")
        raise ValueError(f"{shown(value)} is not known here; {choices}")

    return BeforeValidator(check)


def file_path(value: object) -> str:
    """The PATH of `file:PATH`: for what is read as a file and must not be in the environment."""
    if not isinstance(value, str) or not value.startswith("file:") or len(value) == len("file:"):
        raise ValueError("must be file:PATH")
    return value.removeprefix("file:")


def not_yet(what: str) -> BeforeValidator:
    """A field of a later release: empty is as good as absent, anything else is a fault."""

    def check(value: object) -> None:
        if value not in (None, [], {}):
            raise ValueError(f"{what} is not available in this release")

    return BeforeValidator(check)


def unique(what: str) -> AfterValidator:
    """A list without repetitions."""

    def check(values: list[Any]) -> list[Any]:
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ValueError(f"names {what} {shown(value)} twice")
        return values

    return AfterValidator(check)


def _by(check: Callable[[object], Any]) -> BeforeValidator:
    return BeforeValidator(check)


def _named_by(pattern: re.Pattern[str], more: str = "") -> WithJsonSchema:
    """What the OpenAPI document says of a name."""
    return WithJsonSchema({"type": "string", "maxLength": MAX_NAME, "pattern": f"^{pattern.pattern}{more}$"})


_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TAG_VALUE, "pattern": "^[^,=\\x00-\\x1f\\x7f]+$"}
_PERIOD = {"type": "string", "pattern": f"^{_DURATION.pattern}$", "examples": ["5s", "300ms"]}
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION_MS / 1000}
_USD = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,9})?$"}]}

Name = Annotated[str, _by(name), _named_by(_NAME)]
StoreAddress = Annotated[str, _by(store_address)]
ModelName = Annotated[str, _by(model_name), _named_by(_MODEL)]
AliasName = Annotated[str, _by(alias_name), _named_by(_MODEL, r"(/\*)?")]
TagValue = Annotated[str, _by(tag_value), WithJsonSchema(_TEXT)]
GraceMs = Annotated[int, _by(grace_ms)]
Cidr = Annotated[str, _by(cidr)]
DurationMs = Annotated[int, _by(duration_ms), WithJsonSchema({"anyOf": [_PERIOD, _SECONDS]})]
SpanS = Annotated[int, _by(span_s)]
Fraction = Annotated[float, _by(fraction)]
ListenAddress = Annotated[str, _by(listen_address)]
BaseUrl = Annotated[str, _by(base_url)]
HeaderFields = Annotated[dict[str, str], _by(header_fields)]
Reference = Annotated[str, _by(reference)]
FilePath = Annotated[str, _by(file_path)]
CredentialReference = Annotated[str, _by(credential_reference)]
Moment = Annotated[datetime, _by(moment)]
Day = Annotated[datetime, _by(day)]
TimeZone = Annotated[str, _by(time_zone)]
PriceUsd = Annotated[Decimal, _by(price), WithJsonSchema(_USD)]
Each = Annotated[
    str,
    _by(each_dimension),
    WithJsonSchema({"type": "string", "pattern": f"^({'|'.join(MATCHABLE)}|tag:{_NAME.pattern})$"}),
]
