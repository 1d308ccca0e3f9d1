"""Recorded traffic of a real PDS, and what its PLC directory said at each moment."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from relay.ingest.pipeline import read_message
from relay.protocol.events import AccountScoped
from relay.protocol.frame import MessageFrame
from relay.world.corpus import read_frames
from relay.world.directory import Directory


class Recorded(NamedTuple):
    """One frame of a recording, decoded."""

    message: bytes
    event: AccountScoped
    frame: MessageFrame

    @property
    def time(self) -> str:
        """As the host said it; RFC 3339 in UTC, so it compares as text."""
        return str(self.frame.payload["time"])


def read_recording(path: Path) -> list[Recorded]:
    """All frames of a `.frames` file; each must hold an event."""
    recording = []
    for message in read_frames(path):
        read = read_message(message)
        assert isinstance(read[1], MessageFrame), read
        recording.append(Recorded(message, read[0], read[1]))
    return recording


class PlcHistory:
    """The audit logs of a recording; `publish` makes a directory say what was so at a time."""

    def __init__(self, path: Path, hosts: dict[str, str]) -> None:
        self._logs: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())
        self._hosts = hosts

    @property
    def times(self) -> list[str]:
        """When something changed, in order."""
        return sorted(entry["createdAt"] for log in self._logs.values() for entry in log)

    def publish(self, directory: Directory, until: str) -> None:
        """The state of all DIDs at `until`; hosts of the recording are replaced by those given."""
        for did, log in self._logs.items():
            past = [entry["operation"] for entry in log if entry["createdAt"] <= until]
            if past:
                directory.put(did, self._document(did, past[-1]))

    def _document(self, did: str, operation: dict[str, Any]) -> dict[str, object]:
        endpoint = operation["services"]["atproto_pds"]["endpoint"]
        return {
            "id": did,
            "alsoKnownAs": operation["alsoKnownAs"],
            "verificationMethod": [
                {
                    "id": f"{did}#atproto",
                    "type": "Multikey",
                    "controller": did,
                    "publicKeyMultibase": operation["verificationMethods"]["atproto"].removeprefix("did:key:"),
                },
            ],
            "service": [
                {
                    "id": "#atproto_pds",
                    "type": "AtprotoPersonalDataServer",
                    "serviceEndpoint": self._hosts[endpoint],
                },
            ],
        }
