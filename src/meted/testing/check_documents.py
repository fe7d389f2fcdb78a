"""Conformance of a store's documents: versions in order, whole or not at all, by house."""

from contextlib import closing

from meted.live.store import Document, Store, StoreError
from meted.testing.store_rows import MakeStore


def check_documents(make_store: MakeStore) -> None:
    """The newest version of each name is told, old ones stay, and other houses see nothing."""
    first, other = _document("chat~2", "measuring"), _document("chat~3", "predicted")
    with closing(make_store()) as store:
        assert list(store.documents("receipt")) == []
        store.append_documents((first, other))
        store.append_documents((_document("chat~2", "verified"), _document("chat~2", "x", "front")))
        store.append_documents(())
    with closing(make_store()) as store:
        assert list(store.documents("receipt")) == [_document("chat~2", "verified"), other]
        assert list(store.documents("front")) == [_document("chat~2", "x", "front")]
        found = store.document_versions("receipt", "chat~2")
        assert list(found) == [first, _document("chat~2", "verified")]
        assert list(store.document_versions("receipt", "nobody's")) == []
    with closing(make_store("there")) as store:
        assert list(store.documents("receipt")) == []
        store.append_documents((_document("chat~2", "of another house"),))
    with closing(make_store()) as store:
        assert len(store.document_versions("receipt", "chat~2")) == 2
        _refuses_whole(store)


def _refuses_whole(store: Store) -> None:
    """One document that cannot be stored takes those beside it along."""
    try:
        store.append_documents((_document("fresh", "{}"), _document("nul\x00", "{}")))
    except StoreError:
        assert [one.name for one in store.documents("receipt")] == ["chat~2", "chat~3"]
        return
    raise AssertionError("a name with NUL was stored, expected StoreError")


def _document(name: str, status: str, kind: str = "receipt") -> Document:
    return Document(kind=kind, name=name, body=f'{{"status": "{status}"}}')
