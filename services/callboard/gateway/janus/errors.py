"""What can be wrong with a request, and how Janus' API numbers it."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Of the API's core: in `{"janus": "error", "error": {"code": …}}`."""

    UNAUTHORIZED = 403
    UNKNOWN_REQUEST = 453
    INVALID_JSON = 454
    INVALID_JSON_OBJECT = 455
    MISSING_MANDATORY_ELEMENT = 456
    INVALID_REQUEST_PATH = 457
    SESSION_NOT_FOUND = 458
    HANDLE_NOT_FOUND = 459
    PLUGIN_NOT_FOUND = 460
    PLUGIN_ATTACH = 461
    JSEP_UNKNOWN_TYPE = 464
    INVALID_ELEMENT_TYPE = 467
    SESSION_CONFLICT = 468
    UNEXPECTED_ANSWER = 469
    NOT_ACCEPTING_SESSIONS = 472


class StreamingCode(IntEnum):
    """Of the streaming plugin: in `{"streaming": "event", "error_code": …}`."""

    INVALID_REQUEST = 452
    MISSING_ELEMENT = 453
    INVALID_ELEMENT = 454
    NO_SUCH_MOUNTPOINT = 455
    UNAUTHORIZED = 457
    CANNOT_SWITCH = 458
    INVALID_STATE = 460
    UNKNOWN_ERROR = 470


class Refused(Exception):
    """A request that the core does not do."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamingRefused(Exception):
    """A request that the streaming plugin does not do."""

    def __init__(self, code: StreamingCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
