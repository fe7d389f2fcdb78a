import gzip
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meted.live.training.data import (
    HELD_OUT_TOKENS_MAX,
    WINDOW_BYTES,
    Encoder,
    encode_documents,
    load_dataset,
    pack,
    read_documents,
    save_dataset,
    step_rows,
    windows,
)
from meted.live.training.html_text import html_text

ENCODER = Encoder(
    encode=lambda text: list(text.encode()),
    render=lambda turns: "".join(f"<{turn.role}>{turn.content}" for turn in turns),
    eos=0,
)


def texts(path: Path) -> list[str | None]:
    return [document.text for document in read_documents(path)]


def test_a_folder_gives_its_texts_in_the_order_of_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.MD").write_text("third")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"second"))
    (tmp_path / "a.html").write_text("<p>first</p>")
    (tmp_path / "ignored.png").write_bytes(b"\x89PNG")
    assert texts(tmp_path) == ["first", "second", "third"]


def test_jsonl_holds_texts_and_chats(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text(
        '{"text": "hello", "id": 3}\n\n'
        '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}'
    )
    encoded = encode_documents(read_documents(path), ENCODER)
    assert [bytes(one.tolist()) for one in encoded] == [b"hello\0", b"<user>hi<assistant>ho"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"txt": "x"}', r"a\.jsonl:2 is no training example"),
        ("a.jsonl", b"{", r"a\.jsonl:1 is no training example"),
        ("a.jsonl", b'{"messages": [{"role": "user"}]}', r"a\.jsonl:1 .*content"),
        ("a.txt", b"ok \xff", r"a\.txt is not UTF-8 text \(byte 3\)"),
        ("a.txt.gz", b"no gzip", r"cannot read training data .*a\.txt\.gz"),
        ("a.txt.gz", gzip.compress(b"cut short")[:-9], r"cannot read training data"),
        ("a.png", b"", r"no kind of training text; expected one of \.txt"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        texts(path)


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        texts(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no training text; expected files ending in \.txt"):
        texts(tmp_path)


def test_html_keeps_text_rows_and_preformatted_parts() -> None:
    page = """<html><head><title>T</title><script>x</script></head><body><nav>menu</nav>
    <h1>One &amp; two</h1><p>a <b>bold</b>
    word<table><tr><td><p>k</p></td><td>v</td></tr><tr><td>l</td><td>w</td></tr></table>
    <pre>if x:
        y</pre></body></html>"""
    lines = [line for line in html_text(page).splitlines() if line.strip()]
    assert lines[:2] == ["One & two", "a bold word"]
    assert [line.split() for line in lines[2:4]] == [["k", "v"], ["l", "w"]]
    assert lines[4:] == ["if x:", "        y"]


def test_a_copy_of_a_document_is_left_out() -> None:
    path_texts = ["same", "other", "same", " \n"]
    encoded = encode_documents(
        (document for text in path_texts for document in [_document(text)]), ENCODER
    )
    assert len(encoded) == 2


def _document(text: str):
    from meted.live.training.data import Document

    return Document(source="test", text=text)


@given(st.text(alphabet="ab \n\tßé漢😀", max_size=9000))
def test_windows_lose_nothing_and_are_small(text: str) -> None:
    parts = list(windows(text))
    assert "".join(parts) == text
    assert all(len(part.encode()) <= WINDOW_BYTES for part in parts)


def test_windows_are_cut_before_white_space_after_a_word() -> None:
    text = "word  and\n\n  more " * 1000
    parts = list(windows(text))
    assert len(parts) > 5
    for one, following in itertools.pairwise(parts):
        assert not one[-1].isspace()
        assert following[0].isspace()


@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 5),
)
def test_no_token_is_on_both_sides_and_the_share_is_kept(
    lengths: list[int], share: float, seed: int
) -> None:
    # Every token is unique, so that whatever appears twice has leaked.
    bounds = np.cumsum([0, *lengths])
    documents = [np.arange(start, end, dtype=np.int32) for start, end in itertools.pairwise(bounds)]
    try:
        dataset = pack(documents, sequence_tokens=16, held_out=share, seed=seed)
    except ValueError as error:
        assert f"{bounds[-1]} tokens in {len(lengths)} documents" in str(error)
        assert bounds[-1] < 16 * 12
        return
    again = pack(documents, sequence_tokens=16, held_out=share, seed=seed)
    assert np.array_equal(dataset.train, again.train)
    tokens = Counter([*dataset.train.ravel().tolist(), *dataset.held_out.ravel().tolist()])
    assert max(tokens.values()) == 1
    total = sum(lengths)
    target = max(16, total * share)
    assert dataset.held_out.size <= target + 64
    assert dataset.held_out.size >= min(target, HELD_OUT_TOKENS_MAX) - 16
    assert dataset.train.size >= total - target - 64 - 16


def test_the_held_out_part_is_bounded_and_spread() -> None:
    documents = [np.arange(200_000, dtype=np.int32)]
    dataset = pack(documents, sequence_tokens=16, held_out=0.5, seed=0)
    assert dataset.held_out.size == HELD_OUT_TOKENS_MAX
    assert dataset.train.size > 191_000
    assert len({int(row[0]) // 20_000 for row in dataset.held_out}) >= 5


def test_each_epoch_sees_every_row_once_in_another_order() -> None:
    order = np.concatenate(
        [step_rows(step=step, rows_per_step=4, rows=10, seed=1) for step in range(5)]
    )
    first, second = order[:10], order[10:]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()


def test_a_saved_dataset_is_the_same(tmp_path: Path) -> None:
    dataset = pack([np.arange(900, dtype=np.int32)], sequence_tokens=16, held_out=0.1, seed=0)
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        save_dataset(dataset, file)
    loaded = load_dataset(path)
    assert np.array_equal(loaded.train, dataset.train)
    assert np.array_equal(loaded.held_out, dataset.held_out)
