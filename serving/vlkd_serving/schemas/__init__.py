"""What requests and answers look like, a file a dialect."""

from __future__ import annotations
