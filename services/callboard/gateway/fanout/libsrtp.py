"""The functions of libsrtp, from the library that pylibsrtp brings: nothing is linked twice.

pylibsrtp's own `Session.protect` takes 1,356 bytes at most and copies each packet three times; here
packets are protected in place, in a buffer of ours.
"""

from __future__ import annotations

from collections.abc import Callable

# pylibsrtp keeps its cffi objects out of __all__; they are typed nowhere
from pylibsrtp import ffi, lib  # type: ignore[attr-defined]

TRAILER_BYTES_MAX = 16 + 128
"""What srtp_protect may write behind a packet: SRTP_MAX_TAG_LEN + SRTP_MAX_MKI_LEN."""


def protect_pointer() -> int:
    """The address of `srtp_err_status_t srtp_protect(srtp_t, void *, int *)`."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, "srtp_protect")))


def session_at(pointer: int) -> object:
    """A session (`srtp_t`) as `Protector.protect` takes it."""
    session: object = ffi.cast("srtp_t", pointer)
    return session


class Protector:
    """A buffer, and packets that are protected in it."""

    def __init__(self, bytes_max: int) -> None:
        self._packet = ffi.new("char[]", bytes_max + TRAILER_BYTES_MAX)
        self._bytes = ffi.new("int *")
        self.view = memoryview(ffi.buffer(self._packet))
        """Write the packet here, from 0 on."""
        self._protect: Callable[[object, object, object], int] = lib.srtp_protect

    def protect(self, session: object, count: int) -> memoryview | None:
        """Protect the first `count` bytes of `view` with a session.

        Returns the protected packet, good until the next one is written; None if libsrtp refuses:
        no stream of this SSRC, a number outside its replay window, a key used up.
        """
        self._bytes[0] = count
        if self._protect(session, self._packet, self._bytes) != 0:
            return None
        return self.view[: self._bytes[0]]
