"""For programs with very many TLS connections: what those cost by the C library's habits, and
without.
"""

from __future__ import annotations

import sys

_M_MMAP_THRESHOLD = -3
"""mallopt(3)."""
TLS_BUFFER_BYTES = 256 * 1024
"""uvloop gives each TLS connection a buffer to read into, of which it touches a page or two."""


def map_tls_buffers() -> None:
    """Have glibc map those buffers, page by page as they are touched.

    Left alone, it takes them from its heap once a larger block was freed anywhere in the program
    (the threshold "is adjusted dynamically"), where they lie on pages that were touched before:
    50 kB for each idle connection instead of 25. Concerns the whole process, for good: every block
    of that size is mapped, and its pages are faulted in, each time it is made. (An answer of 1 MB
    by TLS was measured to take 2.7 times the processor time.) So it is for a program whose idle
    connections are thousands and whose answers are small to say, before it listens. Nothing happens
    where the C library is another.
    """
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - slow to import, and needed for TLS only

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, TLS_BUFFER_BYTES)
