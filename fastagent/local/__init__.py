"""A Realtime server on loopback with real ears and a real voice, for calls without a key or a network.

Importing it needs no extra; hearing needs ``pip install 'fastagent[local]'``.
"""

from fastagent.local.response import Pace
from fastagent.local.server import LocalServer, serve
from fastagent.local.session import SessionOptions

__all__ = ["LocalServer", "Pace", "SessionOptions", "serve"]
