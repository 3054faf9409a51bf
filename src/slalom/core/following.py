"""The seam of those who keep figures by model, and must follow when models come and go.

Owns one protocol, which planners and keepers may have beside their own. Told by `reloading`.
Implementations live in `slalom.policies`.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from slalom.core.request import ModelSpec


@runtime_checkable
class FollowsModels(Protocol):
    """Something that keeps figures by model, and wants to know when models come and go."""

    def models_changed(self, models: Sequence[ModelSpec], fresh: Collection[str]) -> None:
        """These are all models from now on.

        Args:
            models: With those that stay as they were, of which nothing is to be forgotten.
            fresh: Of which nothing is known: they are new, or their engine is another one.
        """
        ...
