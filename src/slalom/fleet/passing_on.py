"""What an ingress tells the core of a request that it passes on, and how the core knows it.

Owns the names of the headers and their reading and writing. They count only with the secret that
the parts of one fleet share; from anybody else they are dropped. Pure. Called by `ingress` and
`front_door`.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

Lines = list[tuple[bytes, bytes]]

_SECRET = b"x-slalom-fleet-secret"
_AGE = b"x-slalom-fleet-age-us"
_TOKEN = b"x-slalom-fleet-request"
_CLIENT = b"x-slalom-fleet-client"
_OURS = frozenset((_SECRET, _AGE, _TOKEN, _CLIENT))
#: Of one connection, not of the request.
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"content-length",
        b"date",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
#: An age beyond this is no age, microseconds.
_AGE_MAX_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class PassedOn:
    """What the core learns of a request besides the request."""

    #: How long ago it arrived at the ingress, microseconds. An age, since no two clocks agree.
    age_us: int
    #: Names the request: the same one sent again has the same token.
    token: str
    #: The client's address, without its port.
    client: str = ""

    def headers(self, secret: str) -> Lines:
        """As headers."""
        return [
            (_SECRET, secret.encode()),
            (_AGE, b"%d" % self.age_us),
            (_TOKEN, self.token.encode()),
            (_CLIENT, self.client.encode("latin-1", "replace")),
        ]


def read_passed_on(headers: Iterable[tuple[bytes, bytes]], secret: str) -> PassedOn | None:
    """What an ingress of this fleet told; None for anybody else.

    Args:
        headers: Raw, names in lower case.
        secret: The fleet's.
    """
    found = {name: value for name, value in headers if name in _OURS}
    if not secret or not hmac.compare_digest(found.get(_SECRET, b""), secret.encode()):
        return None
    age, token = found.get(_AGE, b"0"), found.get(_TOKEN, b"")
    if not age.isdigit() or int(age) > _AGE_MAX_US or not token:
        return None
    return PassedOn(int(age), token.decode("latin-1"), found.get(_CLIENT, b"").decode("latin-1"))


def without_ours(headers: Iterable[tuple[bytes, bytes]]) -> Lines:
    """Headers as if no ingress had been there."""
    return [(name, value) for name, value in headers if name not in _OURS]


def clients_own(headers: Iterable[tuple[bytes, bytes]]) -> Lines:
    """Headers of a request or an answer that go on: those of its connection and ours do not."""
    return [
        (name, value) for name, value in headers if name not in _HOP_BY_HOP and name not in _OURS
    ]
