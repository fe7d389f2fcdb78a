"""Which prompt tokens a step computes, and which come from the prefix cache.

OpenVINO GenAI tells neither, so this mirrors its scheduler (`dynamic_split_fuse`: first one token
for every request that generates, then prompts in order of arrival up to the batch limit) and its
block store (KV blocks found by a hash over all tokens up to their end; blocks of ended requests
stay until the least recently taken is overwritten). What is observed corrects the mirror: prompt
tokens computed and cached always add up to the prompt. Not mirrored: preemption when the cache is
full of running requests, and proposed tokens that were not accepted. With speculation those take
part of a step's tokens, so that a prompt may be computed a step later than it says.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Progress:
    """One request: its tokens so far, how many are in the KV cache, and in which blocks.

    chain: the key of each full block's end. scheduled: prompt tokens of the step under way.
    """

    tokens: list[int]
    prompt_tokens: int
    processed: int = 0
    cached: int = 0
    scheduled: int = 0
    generating: bool = False
    chain: list[int] = field(default_factory=lambda: [0])
    blocks: list["_Block"] = field(default_factory=list["_Block"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWork:
    """Prompt tokens that a step computed for a request, and that it turned out to have cached."""

    computed: int
    cached: int


class PrefixMirror:
    """A pure model of the pipeline's scheduler and prefix cache."""

    def __init__(
        self, *, batch_tokens: int, block_tokens: int, blocks: int, caching: bool = True
    ) -> None:
        """caching: blocks of ended requests are found again."""
        self._caching = caching
        self._batch_tokens = batch_tokens
        self._block_tokens = block_tokens
        self._store = _BlockStore(blocks)
        self._requests: dict[str, Progress] = {}

    def add(self, request_id: str, prompt: Sequence[int]) -> int:
        """Take a request in, in the order in which the pipeline does; return its cached tokens."""
        request = Progress(tokens=list(prompt), prompt_tokens=len(prompt))
        self._requests[request_id] = request
        if self._caching:
            self._restore(request)
        request.cached = request.processed
        return request.processed

    def schedule(self) -> None:
        """Before a step: decide what each request has computed in it."""
        budget = self._batch_tokens
        for request in self._requests.values():
            request.scheduled = 0
            if request.generating and budget:
                self._compute(request, 1)
                budget -= 1
        for request in self._requests.values():
            if not request.generating and budget:
                request.scheduled = min(budget, request.prompt_tokens - request.processed)
                self._compute(request, request.scheduled)
                budget -= request.scheduled

    def settle(self, request_id: str, generated: Sequence[int]) -> PromptWork:
        """After a step: what it did of the request's prompt, given the tokens that came."""
        request = self._requests[request_id]
        computed, cached = request.scheduled, 0
        accepted = len(generated) - 1 if request.generating else 0
        if not request.generating:
            missing = request.prompt_tokens - request.processed
            if generated and missing:
                # Its first token is here, so the rest of the prompt was in the cache.
                self._compute(request, missing)
                cached = missing
            elif not generated and not missing and computed:
                # No token yet, so the prompt is not done: keep one token back.
                computed -= 1
                request.processed -= 1
            request.generating = bool(generated)
        request.tokens.extend(generated)
        if accepted > 0:
            # Proposed tokens that proved right: their keys and values are in the cache already.
            self._compute(request, accepted)
        request.scheduled = 0
        return PromptWork(computed=computed, cached=cached)

    def context(self, request_id: str) -> int:
        """Tokens that attention has read so far: those in the KV cache."""
        return self._requests[request_id].processed

    def end(self, request_id: str) -> None:
        """A request has ended or was cancelled; its blocks may be reused or overwritten."""
        for block in self._requests.pop(request_id).blocks:
            self._store.release(block)

    @property
    def usage(self) -> float:
        """Share of the blocks that running requests hold."""
        return self._store.held / self._store.total

    def _restore(self, request: Progress) -> None:
        """Find the longest cached prefix: full blocks, then at most one partly filled block.

        At least one token is always computed, because it gives the first logits.
        """
        end, size = 0, request.prompt_tokens
        while end < size:
            start, end = end, min(end + self._block_tokens, size)
            if self._take(request, end):
                continue
            tails = range(start + 1, min(start + self._block_tokens, size + 1))
            next((tail for tail in tails if self._take(request, tail)), None)
            return

    def _take(self, request: Progress, end: int) -> bool:
        block = self._store.take(self._key(request, end))
        if block is None:
            return False
        request.blocks.append(block)
        request.processed = end - 1 if end == request.prompt_tokens else end
        return True

    def _compute(self, request: Progress, tokens: int) -> None:
        """Put tokens into the KV cache; blocks are named after all tokens that are known."""
        request.processed += tokens
        needed = -(-request.processed // self._block_tokens)
        blocks, known = request.blocks, len(request.tokens)
        if blocks and (needed > len(blocks) or request.generating):
            last = self._key(request, min(len(blocks) * self._block_tokens, known))
            blocks[-1] = self._store.rename(blocks[-1], last)
        while len(blocks) < needed:
            key = self._key(request, min((len(blocks) + 1) * self._block_tokens, known))
            blocks.append(self._store.allocate(key))

    def _key(self, request: Progress, end: int) -> int:
        """A hash over the tokens up to `end`, by way of the full blocks before it."""
        size, chain = self._block_tokens, request.chain
        full = (end - 1) // size
        while len(chain) <= full:
            start = (len(chain) - 1) * size
            chain.append(hash((chain[-1], *request.tokens[start : start + size])))
        return hash((chain[full], *request.tokens[full * size : end]))


@dataclass(slots=True, eq=False)
class _Block:
    """A KV block: a hash over all tokens up to its end, who holds it, when it was last taken."""

    key: int
    taken: int
    holders: int = 1


class _BlockStore:
    """KV blocks: held by running requests, or free to be found by key again or overwritten."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held = 0
        self._free = 0
        self._by_key: dict[int, _Block] = {}
        self._oldest: list[tuple[int, _Block]] = []
        self._ticks = count()

    def take(self, key: int) -> _Block | None:
        """Hold the block of this key if there is one."""
        block = self._by_key.get(key)
        if block is None:
            return None
        if block.holders == 0:
            self._free -= 1
            self.held += 1
        block.holders += 1
        block.taken = next(self._ticks)
        return block

    def allocate(self, key: int) -> _Block:
        """Hold a new block, overwriting the least recently taken free one if all are in use."""
        if self.held + self._free >= self.total:
            self._overwrite()
        block = _Block(key, next(self._ticks))
        self._name(block)
        self.held += 1
        return block

    def rename(self, block: _Block, key: int) -> _Block:
        """The block's contents have grown. If others hold it too, it is copied first."""
        if block.key == key:
            return block
        if block.holders > 1:
            block.holders -= 1
            return self.allocate(key)
        if self._by_key.get(block.key) is block:
            del self._by_key[block.key]
        block.key = key
        self._name(block)
        return block

    def release(self, block: _Block) -> None:
        """Hold the block no longer; with the last holder gone it stays to be found."""
        block.holders -= 1
        if block.holders == 0:
            self._name(block)
            self.held -= 1
            self._free += 1
            heapq.heappush(self._oldest, (block.taken, block))

    def _name(self, block: _Block) -> None:
        """Let the block be found by its key, instead of an equal one that was there before."""
        before = self._by_key.get(block.key)
        if before is not None and before is not block and before.holders == 0:
            self._free -= 1
        self._by_key[block.key] = block

    def _overwrite(self) -> None:
        while self._oldest:
            taken, block = heapq.heappop(self._oldest)
            current = self._by_key.get(block.key) is block and block.taken == taken
            if current and block.holders == 0:
                del self._by_key[block.key]
                self._free -= 1
                return
