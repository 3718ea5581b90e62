"""AWS Signature Version 4, for requests whose body is at hand.

Source: AWS IAM User Guide, "Create a signed AWS API request"; checked against the published test suite. The path comes
encoded as it is sent, and is encoded once more for the signature, as every service but S3 wants it.
"""

import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import quote

from penstock.domain.http import Headers

ALGORITHM = "AWS4-HMAC-SHA256"


class AccessKey(NamedTuple):
    """`token`: of a session, empty for a key that lasts."""

    id: str
    secret: str
    token: str = ""


class Scope(NamedTuple):
    region: str
    service: str


def sign(request: tuple[str, str, Headers, bytes], key: AccessKey, scope: Scope, now_s: float) -> Headers:
    """The headers to add to `(method, path, headers, body)`, whose headers must have `host`; all of them are signed.
    `now_s`: Unix seconds."""
    method, path, headers, body = request
    day, stamp = _stamps(int(now_s))
    added: Headers = [("x-amz-date", stamp)]
    if key.token:
        added.append(("x-amz-security-token", key.token))
    fields = sorted((name.lower(), " ".join(value.split())) for name, value in [*headers, *added])
    names = ";".join(name for name, _ in fields)
    path, _, query = path.partition("?")
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/-_.~"),
            "&".join(sorted(query.split("&"))) if query else "",
            *(f"{name}:{value}" for name, value in fields),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    where = f"{day}/{scope.region}/{scope.service}/aws4_request"
    told = "\n".join([ALGORITHM, stamp, where, hashlib.sha256(canonical.encode()).hexdigest()])
    proof = f"AWS4{key.secret}".encode()
    for step in (day, scope.region, scope.service, "aws4_request", told):
        proof = hmac.new(proof, step.encode(), hashlib.sha256).digest()
    credential = f"Credential={key.id}/{where}, SignedHeaders={names}, Signature={proof.hex()}"
    return [*added, ("authorization", f"{ALGORITHM} {credential}")]


def _stamps(now_s: int) -> tuple[str, str]:
    """`20150830` and `20150830T123600Z`. The calendar by hand (Howard Hinnant, "chrono-Compatible Low-Level Date
    Algorithms"): nothing here may know a clock."""
    days, second = divmod(now_s, 86_400)
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    day = f"{year + era * 400 + (month <= 2):04d}{month:02d}{of_year - (153 * shifted + 2) // 5 + 1:02d}"
    return day, f"{day}T{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}Z"
