"""A replica's prefix cache: blocks of prompts it has computed, the least lately used go first."""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 512
"""Tokens of a block of a traced prompt (the Mooncake traces, Qin et al. 2025)."""


class PrefixCache:
    """blocks: how many it holds."""

    def __init__(self, blocks: int) -> None:
        self._room = blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def hit_tokens(self, prefix: Sequence[int]) -> int:
        """Tokens of a prompt's leading blocks that are cached; all its blocks are from now on."""
        hits = 0
        for block in prefix:
            if block not in self._blocks:
                break
            hits += 1
        for block in reversed(prefix):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)
        return hits * BLOCK_TOKENS
