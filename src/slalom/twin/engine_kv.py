"""The KV blocks of one engine: what jobs hold, and what finished ones leave for others to reuse.

Owns the ledger of blocks. What is kept is known by the name of a prefix and gives way, least
recently used first, to jobs that need blocks. Decides nothing about jobs: `engine_vllm` does.
"""

from collections import OrderedDict

#: Names kept where blocks have no bound, so that memory has one.
_KEPT_MAX = 4_096


class Kept:
    """Full blocks left under a name; `users` running jobs read them at present."""

    __slots__ = ("blocks", "name", "users")

    def __init__(self, name: str, blocks: int) -> None:
        self.name = name
        self.blocks = blocks
        self.users = 0

    def __repr__(self) -> str:
        return f"Kept({self.name!r}, blocks={self.blocks}, users={self.users})"


class KvBlocks:
    """A ledger of blocks.

    Args:
        total: Blocks there are; 0 for no bound.
        block_tokens: Tokens of a block.
    """

    def __init__(self, total: int, block_tokens: int) -> None:
        self.total = total
        self.block_tokens = block_tokens
        #: Blocks held by jobs alone.
        self.used = 0
        #: Blocks kept, and those among them that running jobs read.
        self.kept_blocks = 0
        self.pinned_blocks = 0
        #: By name, least recently used first.
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def __repr__(self) -> str:
        return f"KvBlocks(used={self.used}, kept={self.kept_blocks}, total={self.total})"

    def blocks_for(self, tokens: int) -> int:
        """Blocks that so many tokens take."""
        return -(-tokens // self.block_tokens)

    def available(self) -> int:
        """Blocks that jobs could take now, kept ones that nobody reads included."""
        if not self.total:
            return 1 << 60
        return self.total - self.used - self.pinned_blocks

    def take(self, blocks: int) -> bool:
        """Give a job blocks, dropping what is kept where needed; False if there are too few."""
        if blocks > self.available():
            return False
        self.used += blocks
        if self.total and self.used + self.kept_blocks > self.total:
            self._drop(self.used + self.kept_blocks - self.total)
        return True

    def give_back(self, blocks: int) -> None:
        """Take blocks back from a job."""
        self.used -= blocks

    def find(self, name: str, tokens: int) -> tuple[Kept | None, int]:
        """What is kept under a name, and how many of its blocks lie within so many tokens."""
        kept = self._kept.get(name)
        if kept is None:
            return None, 0
        return kept, min(kept.blocks, tokens // self.block_tokens)

    def read(self, kept: Kept) -> None:
        """Let one more running job read what is kept."""
        if kept.users == 0:
            self.pinned_blocks += kept.blocks
        kept.users += 1
        self._kept.move_to_end(kept.name)

    def stop_reading(self, kept: Kept) -> None:
        """Let one running job less read it."""
        kept.users -= 1
        if kept.users == 0:
            self.pinned_blocks -= kept.blocks

    def keep(self, name: str, blocks: int, shared_blocks: int) -> None:
        """Keep what a job leaves that has given its blocks back, as far as there is room.

        Args:
            name: Of the prefix.
            blocks: Full blocks of the whole context.
            shared_blocks: How many of them were read from what was kept before.
        """
        kept = self._kept.get(name)
        before = kept.blocks if kept else 0
        if blocks <= before or shared_blocks < before or (kept and kept.users):
            return
        if self.total and self.used + self.kept_blocks + blocks - before > self.total:
            return
        if kept is None:
            kept = self._kept[name] = Kept(name, 0)
        kept.blocks = blocks
        self.kept_blocks += blocks - before
        self._kept.move_to_end(name)
        if not self.total and len(self._kept) > _KEPT_MAX:
            self._drop(1)

    def _drop(self, blocks: int) -> None:
        """Forget kept blocks that nobody reads until so many are free."""
        names = []
        for kept in self._kept.values():
            if blocks <= 0:
                break
            if not kept.users:
                names.append(kept.name)
                blocks -= kept.blocks
        for name in names:
            self.kept_blocks -= self._kept.pop(name).blocks
