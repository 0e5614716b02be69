"""Notes of a store: what its driver has to know again, as the list of recorded events, each with its own checksum.

A flipped byte in an event's time would be another event. Notes of earlier versions have none, and are read as they are.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

from glitchflow.data import objects
from glitchflow.data.store.schema import NOTES
from glitchflow.errors import RunError


class Note(BaseModel):
    """Holds anything that is JSON, as it is kept."""

    model_config = ConfigDict(extra="forbid")
    note: Any
    sha256: str


def put_note(path: objects.Location, name: str, value: Any) -> None:
    """Writes a note, JSON."""
    content = json.dumps({"note": value, "sha256": _digest(value)})
    objects.put(path, _place(name), content.encode())


def get_note(path: objects.Location, name: str) -> Any:
    """Returns a note, or None where there is none. Raises `RunError` where it is damaged."""
    content = objects.get(path, _place(name))
    if content is None:
        return None
    found = objects.parse(path, _place(name), content, Any)
    if not isinstance(found, dict) or not found.keys() & Note.model_fields.keys():
        return found
    known = objects.parse(path, _place(name), content, Note)
    if known.sha256 != _digest(known.note):
        raise RunError(f"{path}: damaged: {_place(name)} differs from its checksum")
    return known.note


def damaged_notes(path: objects.Location) -> list[str]:
    """Returns what is wrong with the notes that there are. Raises `Unread`."""
    wrong = []
    for place in objects.names(path, NOTES):
        name = place.removeprefix(f"{NOTES}/").removesuffix(".json")
        try:
            if "/" not in name:  # else of shards, while splits are assigned anew
                get_note(path, name)
        except objects.Unread:
            raise
        except RunError as error:
            wrong.append(str(error))
    return wrong


def _place(name: str) -> str:
    return f"{NOTES}/{name}.json"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
