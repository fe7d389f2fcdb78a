"""How long a request may be: the least of what the checkpoint, the cache and the settings allow."""

from meted.domain.engine_settings import EngineSettings
from meted.domain.request import RequestRejectedError
from meted.domain.units import Tokens
from meted.live.checkpoints.checkpoint import Checkpoint


def context_within(checkpoint: Checkpoint, settings: EngineSettings | None, *, keeps: int) -> int:
    """Tokens of prompt and answer together. keeps: what the engine's cache holds."""
    wished = None if settings is None else settings.context_tokens
    known = [checkpoint.context_tokens, keeps, *([] if wished is None else [wished])]
    return min(known)


def check_prompt(tokens: int, *, context: Tokens, param: str) -> None:
    """Raises RequestRejectedError if a prompt leaves no room for an answer."""
    if tokens == 0:
        raise RequestRejectedError(f"{param} is empty; send some text", param=param)
    if tokens >= context:
        raise RequestRejectedError(
            f"This model's maximum context length is {context} tokens. However, your {param} "
            f"resulted in at least {tokens} tokens. Please reduce the length of the {param}.",
            param=param,
            code="context_length_exceeded",
        )


def answer_tokens(max_tokens: int | None, *, prompt: int, context: Tokens) -> int:
    """The most tokens of the answer. Raises RequestRejectedError if they do not fit."""
    left = context - prompt
    wanted = left if max_tokens is None else max_tokens
    if wanted > left:
        raise RequestRejectedError(
            f"This model's maximum context length is {context} tokens. However, you requested "
            f"{prompt + wanted} tokens ({prompt} in the prompt, {wanted} in the completion). "
            f"Please reduce max_tokens to {left} or less.",
            param="max_tokens",
            code="context_length_exceeded",
        )
    return wanted
