"""Notes of a store: what its driver has to know again, as the list of recorded events, each with its own checksum.

A flipped byte in an event's time would be another event. Notes of earlier versions have none, and are read as they are.
"""

import hashlib
import json
from typing import Any

from glitchflow.data import objects
from glitchflow.data.store.schema import NOTES
from glitchflow.errors import RunError

KEYS = {"sha256", "note"}


def put_note(path: objects.Location, name: str, value: Any) -> None:
    """Writes a note, JSON."""
    note = json.dumps(value).encode()
    objects.put(path, _place(name), _before(hashlib.sha256(note).hexdigest()) + note + b"}")


def get_note(path: objects.Location, name: str) -> Any:
    """Returns a note, or None where there is none. Raises `RunError` where it is damaged."""
    content = objects.get(path, _place(name))
    if content is None:
        return None
    found = objects.parse(path, _place(name), content, Any)
    if not isinstance(found, dict) or not found.keys() & KEYS:
        return found
    before = _before(str(found.get("sha256")))
    # of the bytes: of a million events they are fewer than what is made of them
    digest = hashlib.sha256(memoryview(content)[len(before) : -1]).hexdigest()
    if not content.startswith(before) or digest != found["sha256"]:
        raise RunError(f"{path}: damaged: {_place(name)} differs from its checksum")
    return found["note"]


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


def _before(digest: str) -> bytes:
    """What comes before a note in its file."""
    return f'{{"sha256": "{digest}", "note": '.encode()
