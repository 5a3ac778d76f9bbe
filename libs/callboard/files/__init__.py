"""Files that appear whole or not at all: `create` for what must not be there yet, `replace` for
what may.

`create` is what `open(path, 'x')` promises, made safe against readers in between, a crash and the
umask; `replace` is the same for a file that has a former version. Only the standard library.
"""

from __future__ import annotations

from callboard.files.exclusive import create
from callboard.files.replacing import replace

__all__ = ["create", "replace"]
