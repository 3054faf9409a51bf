"""API keys: who may ask, who may administrate, and when a server may go without keys.

Owns the comparison (SHA-256 digests, constant time, every key looked at) and the rule that an
address off loopback needs keys. Secrets are neither kept nor shown. Pure apart from the digest.
"""

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import replace

from slalom.errors import ConfigError, SlalomError
from slalom.gateway.params import KeyEntry


class AccessError(SlalomError):
    """The caller may not do this; `code` is a row of the error table."""

    code = "invalid_api_key"


class Keys:
    """The configured keys."""

    def __init__(self, entries: Sequence[KeyEntry]) -> None:
        self._entries = tuple(entries)
        #: By the key's name.
        self._stand_ins: dict[str, bytes] = {}
        self._admin_exists = any(entry.admin for entry in entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __repr__(self) -> str:
        return f"<Keys count={len(self._entries)}>"

    def caller(self, authorization: bytes | None, x_api_key: bytes | None) -> KeyEntry | None:
        """The key of a request; None where no keys are configured.

        Args:
            authorization: Value of `Authorization`, if it came.
            x_api_key: Value of `x-api-key`, if it came; `Authorization` wins.

        Raises:
            AccessError: There is no key in the request, or it is not one of ours.
        """
        if not self._entries:
            return None
        secret = _bearer(authorization) or (x_api_key or b"").strip()
        if not secret:
            raise AccessError(
                "This server needs an API key: send 'Authorization: Bearer KEY' or 'x-api-key: "
                "KEY'.",
                code="missing_api_key",
            )
        digest = hashlib.sha256(secret).digest()
        found: KeyEntry | None = None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        if found is None:
            raise AccessError("The API key is not one of this server's keys.")
        return found

    def stand_in(self, name: str) -> bytes:
        """A secret for requests made inside this process on behalf of a key, never shown.

        They have the key's name, task and ceiling, and may not administrate. Empty where no keys
        are configured.

        Raises:
            AccessError: There is no such key any more.
        """
        if not self._entries and not name:
            return b""
        secret = self._stand_ins.get(name)
        if secret is None:
            of_key = next((entry for entry in self._entries if entry.name == name), None)
            if of_key is None:
                raise AccessError(f"There is no key {name!r} on this server any more.")
            secret = self._stand_ins[name] = secrets.token_urlsafe(32).encode()
            digest = hashlib.sha256(secret).digest()
            self._entries += (replace(of_key, sha256=digest, admin=False),)
        return secret

    def followed_by(self, entries: Sequence[KeyEntry]) -> "Keys":
        """Other keys from now on; those that stand in for a key go on as long as it is there."""
        keys = Keys(entries)
        names = {entry.name: entry for entry in entries}
        for name, secret in self._stand_ins.items():
            if name in names:
                digest = hashlib.sha256(secret).digest()
                keys._stand_ins[name] = secret
                keys._entries += (replace(names[name], sha256=digest, admin=False),)
        return keys

    def admin(self, authorization: bytes | None, x_api_key: bytes | None) -> KeyEntry:
        """The admin key of a request.

        Raises:
            AccessError: It carries none. Without any admin key configured nobody gets in.
        """
        if not self._admin_exists:
            raise AccessError(
                "The admin routes are closed: no admin key is configured. Add one under 'keys' "
                "with 'admin: true' and send it as 'Authorization: Bearer KEY'.",
                code="admin_key_needed",
            )
        key = self.caller(authorization, x_api_key)
        if key is None or not key.admin:
            raise AccessError(
                "This key is not an admin key: use one with 'admin: true'.",
                code="admin_key_needed",
            )
        return key


def key_digest(secret: str) -> bytes:
    """The digest by which a secret is known here."""
    return hashlib.sha256(secret.encode()).digest()


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Refuse to listen off loopback without keys.

    Raises:
        ConfigError: The address can be reached from outside, and nothing protects it.
    """
    if has_keys or insecure or is_loopback(host):
        return
    raise ConfigError(
        f"listening on {host!r} would let anyone who can connect use this server: configure "
        "'keys', listen on 127.0.0.1, or say --insecure if something else protects it"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bearer(authorization: bytes | None) -> bytes | None:
    if authorization is None:
        return None
    scheme, _, rest = authorization.partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else None
