"""What the simulated PLC directory knows: DID documents, tombstones, and a read copy that may lag behind.

Pure data; `relay.world.plc` serves it.
"""

from collections.abc import Mapping

from relay.world.accounts import Document


class Directory:
    """DID documents by DID. A DID that maps to None is tombstoned."""

    def __init__(self) -> None:
        self._documents: dict[str, Document | None] = {}
        self._copy: dict[str, Document | None] | None = None

    def put(self, did: str, document: Document) -> None:
        """Registers or changes a document."""
        self._documents[did] = document

    def tombstone(self, did: str) -> None:
        """Ends an identity for good (checklist 145)."""
        self._documents[did] = None

    def lag(self) -> None:
        """From now on readers see the present state, whatever changes (protocol.md 11.2, lagging replicas)."""
        self._copy = dict(self._documents)

    def catch_up(self) -> None:
        """Readers see every change again."""
        self._copy = None

    def document(self, did: str) -> Document | None:
        """What a reader gets; None for a tombstone. Raises KeyError when the DID is not registered."""
        return self._visible()[did]

    def documents(self) -> Mapping[str, Document]:
        """All live documents as a reader sees them."""
        return {did: document for did, document in self._visible().items() if document is not None}

    def _visible(self) -> Mapping[str, Document | None]:
        return self._documents if self._copy is None else self._copy
