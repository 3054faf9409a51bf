"""The errors Slalom raises, by whose fault they are.

Every message says what happened, to what, and what the reader can do. HTTP status codes are
known only in the gateway, which maps these classes and their `code` in one table.
"""


class SlalomError(Exception):
    """Root of every error raised on purpose.

    Attributes:
        code: Machine-readable reason in snake_case, stable across releases.
    """

    code = "slalom_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class RequestError(SlalomError):
    """The caller sent something wrong; `param` names the field or header where known."""

    code = "invalid_request"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, code=code)
        self.param = param


class OverloadedError(SlalomError):
    """There is no room now; try again after `retry_after_s` seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ConfigError(SlalomError):
    """The configuration is wrong; the message names file, key and the nearest known key."""

    code = "invalid_config"


class ModelError(SlalomError):
    """A model file or source cannot be used (missing, corrupt, ambiguous, not downloaded)."""

    code = "model_unusable"


class EngineError(SlalomError):
    """The inference program outside failed: `code` is one of `EngineFailure`'s values.

    Attributes:
        retryable: Whether another attempt on a fresh replica may succeed.
        status: HTTP status the engine answered with, where there was one.
    """

    code = "engine_failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool = True,
        status: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retryable = retryable
        self.status = status


class InvariantError(SlalomError):
    """A rule of ours does not hold: a bug in Slalom. The message names the invariant."""

    code = "internal_invariant"
