"""Messages of Janus' API: how fields are read, how answers and events are written. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from callboard.gateway.janus.errors import Code, Refused

PLUGIN = "janus.plugin.streaming"
BYTES_MAX = 128 * 1024
"""Of a message: an answer of SDP, and JSON around it."""
TRANSACTION_CHARACTERS_MAX = 256
"""It is kept, and sent back with events."""

Message = dict[str, object]


def parse(data: bytes | str) -> object:
    """JSON of outside. Raises Refused."""
    if len(data) > BYTES_MAX:
        raise Refused(Code.INVALID_JSON, f"a message has at most {BYTES_MAX} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise Refused(Code.INVALID_JSON, f"JSON error: {str(problem)[:120]}") from None


def write(message: object) -> str:
    """JSON of ours, in ASCII."""
    return json.dumps(message, separators=(",", ":"))


# ---------------------------------------------------------------------- fields


def text(message: Mapping[str, object], name: str) -> str:
    """A field that must be there. Raises Refused."""
    value = message.get(name)
    if value is None:
        raise missing(name)
    if not isinstance(value, str):
        raise wrong_type(name, "a string")
    return value


def identifier(message: Mapping[str, object], name: str) -> int:
    """The identifier of a session or a handle; 0 if it is not there. Raises Refused."""
    value = message.get(name)
    if value is None:
        return 0
    if not is_positive(value):
        raise wrong_type(name, "a positive integer")
    assert isinstance(value, int)
    return value


def is_positive(value: object) -> bool:
    """Whether it is an integer above 0; JSON's true is none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63


def missing(name: str) -> Refused:
    """For a field that must be there."""
    return Refused(Code.MISSING_MANDATORY_ELEMENT, f"Missing mandatory element ({name})")


def wrong_type(name: str, wanted: str) -> Refused:
    """For a field that is something else."""
    return Refused(Code.INVALID_ELEMENT_TYPE, f"Invalid element type ({name} should be {wanted})")


# ---------------------------------------------------------------------- answers


def error(message: object, refused: Refused) -> Message:
    """The answer to a request that is not done; `message`: what came, if it could be read."""
    told: Message = {"janus": "error"}
    if isinstance(message, dict):
        if is_positive(message.get("session_id")):
            told["session_id"] = message["session_id"]
        transaction = message.get("transaction")
        if isinstance(transaction, str) and len(transaction) <= TRANSACTION_CHARACTERS_MAX:
            told["transaction"] = transaction
    told["error"] = {"code": int(refused.code), "reason": refused.reason}
    return told


def success(transaction: str, session: int = 0, **more: object) -> Message:
    """The answer to what is done at once."""
    named = {"session_id": session} if session else {}
    return {"janus": "success", **named, "transaction": transaction, **more}


def ack(transaction: str, session: int) -> Message:
    """The answer to what events will tell more of."""
    return {"janus": "ack", "session_id": session, "transaction": transaction}


def plugin_data(data: Mapping[str, object]) -> Message:
    """What the plugin says, in the envelope of answers and events."""
    return {"plugin": PLUGIN, "data": data}


# ---------------------------------------------------------------------- events


def event(kind: str, session: int, sender: int = 0, **more: object) -> Message:
    """An event of a session, or of a handle of it."""
    sent_by = {"sender": sender} if sender else {}
    return {"janus": kind, "session_id": session, **sent_by, **more}
