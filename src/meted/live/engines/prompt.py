"""A request's prompt as tokens of the checkpoint, whichever engine reads them."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from typing import Any

import numpy as np

from meted.domain.request import (
    ChatPrompt,
    EmbeddingPrompt,
    EngineRequest,
    RequestRejectedError,
    TextPrompt,
)
from meted.domain.units import Tokens
from meted.live.checkpoints.facts import last_line
from meted.live.engines.context import check_prompt


def encode_prompt(tokenizer: Any, request: EngineRequest, *, context: Tokens) -> list[int]:
    """The prompt's tokens, at least one. Raises RequestRejectedError, naming the field."""
    match request.prompt:
        case ChatPrompt(messages=messages):
            param = "messages"
            turns = [{"role": one.role, "content": one.content} for one in messages]
            try:
                text = tokenizer.apply_chat_template(turns, add_generation_prompt=True)
            except (RuntimeError, ValueError) as error:
                raise RequestRejectedError(
                    f"the checkpoint's chat template refuses the messages: "
                    f"{last_line(error)}; change them or use /v1/completions",
                    param=param,
                ) from error
            special = False
        case TextPrompt(text=text):
            param, special = "prompt", True
        case EmbeddingPrompt():
            raise RequestRejectedError(
                "this deployment generates text; send embeddings to one that embeds",
                param="model",
            )
    ids = _ids(tokenizer, text, param, special=special) if text else []
    check_prompt(len(ids), context=context, param=param)
    return ids


def _ids(tokenizer: Any, text: str, param: str, *, special: bool) -> list[int]:
    try:
        encoded = tokenizer.encode(text, add_special_tokens=special)
    except (RuntimeError, ValueError) as error:
        raise RequestRejectedError(
            f"{param} cannot be turned into tokens: {last_line(error)}; send plain Unicode",
            param=param,
        ) from error
    return np.asarray(encoded.input_ids.data)[0].tolist()
