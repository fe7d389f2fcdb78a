"""Which prompt tokens a step computes, and which come from the prefix cache.

OpenVINO GenAI tells neither, so this mirrors its scheduler (`dynamic_split_fuse`: first one token
for every request that generates, then prompts in order of arrival up to the batch limit) and its
block store (KV blocks found by a hash over all tokens up to their end; blocks of ended requests
stay until the least recently taken is overwritten). What is observed corrects the mirror: prompt
tokens computed and cached always add up to the prompt. Not mirrored: preemption when the cache is
full of running requests.
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
    blocks: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptWork:
    """Prompt tokens that a step computed for a request, and that it turned out to have cached."""

    computed: int
    cached: int


class PrefixMirror:
    """A pure model of the pipeline's scheduler and prefix cache."""

    def __init__(self, *, batch_tokens: int, block_tokens: int, blocks: int) -> None:
        self._batch_tokens = batch_tokens
        self._block_tokens = block_tokens
        self._store = _BlockStore(blocks)
        self._requests: dict[str, Progress] = {}

    def add(self, request_id: str, prompt: Sequence[int]) -> int:
        """Take a request in, in the order in which the pipeline does; return its cached tokens."""
        request = Progress(tokens=list(prompt), prompt_tokens=len(prompt))
        self._requests[request_id] = request
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
        request.scheduled = 0
        return PromptWork(computed=computed, cached=cached)

    def context(self, request_id: str) -> int:
        """Tokens that attention has read so far: those in the KV cache."""
        return self._requests[request_id].processed

    def end(self, request_id: str) -> None:
        """A request has ended or was cancelled; its blocks may be reused or overwritten."""
        for key in self._requests.pop(request_id).blocks:
            self._store.release(key)

    @property
    def usage(self) -> float:
        """Share of the blocks that running requests hold."""
        return self._store.held_blocks / self._store.total

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
        key = self._key(request, end)
        if not self._store.take(key):
            return False
        request.blocks.append(key)
        request.processed = end - 1 if end == request.prompt_tokens else end
        return True

    def _compute(self, request: Progress, tokens: int) -> None:
        """Put tokens into the KV cache; blocks are named after all tokens that are known."""
        request.processed += tokens
        needed = -(-request.processed // self._block_tokens)
        blocks, known = request.blocks, len(request.tokens)
        if blocks and (needed > len(blocks) or request.generating):
            last = self._key(request, min(len(blocks) * self._block_tokens, known))
            self._store.rename(blocks[-1], last)
            blocks[-1] = last
        while len(blocks) < needed:
            key = self._key(request, min((len(blocks) + 1) * self._block_tokens, known))
            self._store.allocate(key)
            blocks.append(key)

    def _key(self, request: Progress, end: int) -> int:
        """A hash over the tokens up to `end`, by way of the full blocks before it."""
        size, chain = self._block_tokens, request.chain
        full = (end - 1) // size
        while len(chain) <= full:
            start = (len(chain) - 1) * size
            chain.append(hash((chain[-1], *request.tokens[start : start + size])))
        return hash((chain[full], *request.tokens[full * size : end]))


class _BlockStore:
    """KV blocks by key: held by running requests, or free to be found again or overwritten."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.held_blocks = 0
        self._held: dict[int, int] = {}
        self._free: dict[int, int] = {}
        self._oldest: list[tuple[int, int]] = []
        self._taken: dict[int, int] = {}
        self._ticks = count()

    def take(self, key: int) -> bool:
        """Hold the block of this key if there is one."""
        if key in self._held:
            self._held[key] += 1
            return True
        if key not in self._free:
            return False
        del self._free[key]
        self._hold(key)
        return True

    def allocate(self, key: int) -> None:
        """Hold a new block, overwriting the least recently taken free one if all are in use."""
        if self.held_blocks + len(self._free) >= self.total:
            self._overwrite()
        if key in self._held:
            # The same tokens computed twice at once: one of the blocks is lost to the search.
            self._held[key] += 1
        else:
            self._free.pop(key, None)
            self._hold(key)

    def rename(self, old: int, new: int) -> None:
        """The block's contents have grown. If others hold it too, it was copied first."""
        if old == new:
            return
        self.release(old, keep=False)
        self.allocate(new)

    def release(self, key: int, *, keep: bool = True) -> None:
        """Hold the block no longer; with the last holder gone it stays to be found, if `keep`."""
        self._held[key] -= 1
        if self._held[key]:
            return
        del self._held[key]
        self.held_blocks -= 1
        if keep:
            self._free[key] = self._taken[key]
            heapq.heappush(self._oldest, (self._taken[key], key))
        else:
            del self._taken[key]

    def _hold(self, key: int) -> None:
        self._held[key] = 1
        self._taken[key] = next(self._ticks)
        self.held_blocks += 1

    def _overwrite(self) -> None:
        while self._oldest:
            taken, key = heapq.heappop(self._oldest)
            if self._free.get(key) == taken:
                del self._free[key]
                del self._taken[key]
                return
