"""An HTTP/1.1 client that does little and costs little, on llhttp and the loop's own transports.

`request`, `response` and `pool` are pure: bytes of a request, answers out of bytes, and which connection is to be used
or closed. `connection` moves the bytes, `driver` is the effector. What the client does not do, `request.fits` tells.
"""

from __future__ import annotations

from .driver import LeanHttpEffector

__all__ = ["LeanHttpEffector"]
