"""Chat with a running house through OpenAI's own client, and say what it cost.

METED_KEY=mt-... python examples/chat.py "Which city is the capital of France?"
"""

import os
import sys

import openai


def main() -> None:
    """Stream one answer."""
    client = openai.OpenAI(
        base_url=os.environ.get("METED_URL", "http://127.0.0.1:8080") + "/v1",
        api_key=os.environ["METED_KEY"],
    )
    question = " ".join(sys.argv[1:]) or "Which city is the capital of France?"
    stream = client.chat.completions.create(
        model=os.environ.get("METED_MODEL", "smollm2-135m"),
        messages=[{"role": "user", "content": question}],
        max_tokens=100,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        elif chunk.usage is not None:
            cost = (chunk.usage.model_extra or {}).get("meted_cost_usd")
            print(f"\n{chunk.usage.completion_tokens} tokens, ${cost}")


if __name__ == "__main__":
    main()
