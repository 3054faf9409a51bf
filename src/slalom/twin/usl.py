"""The universal scalability law: a request's speed as a function of how many run beside it.

Owns the law and the published fit of one card. As an engine it runs in `engine_model`: each token
takes 1/v(L) at the L of its beginning. Called by `engine_specs` and by the SABER scenarios.
"""

from dataclasses import dataclass

from slalom.errors import ConfigError
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class UslLaw:
    """v(L) = a / (1 + s L + k L^2), tokens per second of each of L requests.

    `a` is the speed of a request alone, `s` what contention costs, `k` what coherence costs.
    """

    a: float
    s: float
    k: float
    #: Reading a prompt; 0 where the speeds were measured end to end and hold it already.
    prefill_ns_per_token: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no speed.

        Raises:
            ConfigError: `a` is not positive, or one request alone has no positive speed.
        """
        if self.a <= 0 or self._slowness(1) <= 0:
            raise ConfigError(
                f"usl law: a={self.a}, s={self.s}, k={self.k} give no positive speed at L=1; "
                "a must be positive and 1 + s + k too"
            )

    def speed(self, running: int) -> float:
        """Tokens per second of each of `running` requests."""
        return self.a / self._slowness(running)

    def at_speed(self, speed: float) -> "UslLaw":
        """The same on a device so many times as fast."""
        prefill_ns = round(self.prefill_ns_per_token / speed)
        return UslLaw(self.a * speed, self.s, self.k, prefill_ns)

    def step_ns(self, running: int) -> int:
        """Time of a token that begins while `running` jobs run, itself included; at least 1."""
        return max(round(SECOND / self.speed(running)), 1)

    def _slowness(self, running: int) -> float:
        """How many times 1/a a token takes; grows with `running`.

        With a negative `k` the polynomial turns back at -s/2k: beyond that it stays as it is.
        """
        load = float(running)
        if self.k < 0:
            load = min(load, -self.s / (2 * self.k))
        return 1 + self.s * load + self.k * load**2


#: SABER's published fit for Qwen2.5-Coder-3B on its card (R^2 0.992).
#: Source: arXiv 2506.19677, load against tokens per second of a request.
SABER_FIT = UslLaw(a=102.55, s=0.0300, k=-0.0001)

#: The means it was fitted to: requests in flight, tokens per second of each. Same source.
SABER_MEANS: tuple[tuple[int, float], ...] = (
    (1, 94.95),
    (2, 92.7),
    (3, 91.7),
    (4, 90.6),
    (5, 89.1),
    (6, 87.3),
    (7, 86.3),
    (8, 85.4),
    (9, 83.7),
    (10, 82.5),
    (20, 63.3),
    (30, 58.5),
    (40, 52.0),
    (50, 48.6),
    (60, 45.0),
)
