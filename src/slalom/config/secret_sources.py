"""Fetches the secrets that the configuration only points at: from variables and files.

Owns the reading and the errors; a message names the place and never the secret. Called by
assembly when the gateway and the remote engines are built, and by `slalom doctor`.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from slalom.config.engine_sections import RemoteEngine
from slalom.config.sections import KeySection
from slalom.errors import ConfigError

_MAX_BYTES = 64 * 1024


def key_sha256(key: KeySection, environ: Mapping[str, str] | None = None) -> bytes:
    """The SHA-256 digest of a key's secret, 32 bytes.

    Raises:
        ConfigError: The variable or file is not there, or empty.
    """
    if key.key_sha256 is not None:
        return bytes.fromhex(key.key_sha256)
    whose = f"key {key.name!r}"
    if key.key is not None:
        secret = key.key.get_secret_value()
        if not secret:
            raise ConfigError(f"{whose}: its secret is empty")
    elif key.key_env is not None:
        secret = _from_variable(whose, key.key_env, environ)
    elif key.key_file is not None:
        secret = _from_file(whose, key.key_file)
    else:
        raise ConfigError(f"{whose}: give exactly one of key, key_env, key_file, key_sha256")
    return hashlib.sha256(secret.encode()).digest()


def remote_key(
    model_id: str, engine: RemoteEngine, environ: Mapping[str, str] | None = None
) -> str | None:
    """The API key for a remote engine, or None where it needs none.

    Raises:
        ConfigError: The variable or file is not there, or empty.
    """
    whose = f"model {model_id!r}"
    if engine.api_key_env is not None:
        return _from_variable(whose, engine.api_key_env, environ)
    if engine.api_key_file is not None:
        return _from_file(whose, engine.api_key_file)
    return None


def _from_variable(whose: str, name: str, environ: Mapping[str, str] | None) -> str:
    secret = (os.environ if environ is None else environ).get(name, "").strip()
    if not secret:
        raise ConfigError(f"{whose}: the environment variable {name} is not set; set it")
    return secret


def _from_file(whose: str, path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{whose}: its secret cannot be read from {path}: {reason}") from None
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise ConfigError(f"{whose}: the first line of {path} is empty; write the secret there")
    return lines[0].strip()
