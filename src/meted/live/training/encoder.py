"""A checkpoint's own tokenizer for text and chats: what training and judging read with."""
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meted.live.training.data import ChatTurn, Encoder

if TYPE_CHECKING:
    from openvino_genai import Tokenizer


def make_encoder(tokenizer: "Tokenizer") -> Encoder:
    """An encoder around the tokenizer that serving uses too."""

    def encode(text: str) -> Sequence[int]:
        return tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()

    def render(turns: Sequence[ChatTurn]) -> str:
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            return tokenizer.apply_chat_template(messages, add_generation_prompt=False)
        except RuntimeError as error:
            raise ValueError(
                f"the base's chat template refuses a chat that begins {str(turns[0])[:80]!r}: "
                f"{error}; correct the data"
            ) from None

    return Encoder(encode=encode, render=render, eos=tokenizer.get_eos_token_id())
