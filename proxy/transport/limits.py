"""What an upstream may make us hold or wait for, whichever client speaks to it."""

from __future__ import annotations

HEAD_LIMIT = 64 << 10
"""Bytes of status line and headers, interim (1xx) answers included; also of framing without any body."""
LINE_LIMIT = 16 << 10
UNREAD_LIMIT = 256 << 10
"""Bytes that wait to be read before the socket is no longer read from; a read takes them all."""
LINGER_SECONDS = 1.0
LINGER_LIMIT = 16 << 10
"""Bytes after `release` for which a connection is worth waiting for."""
