"""What several training processes have to do beyond what the Trainer does for them."""

from __future__ import annotations

import atexit
import sys
from functools import cache

import torch.distributed

__all__ = ["leave_at_exit"]


@cache
def leave_at_exit() -> None:
    """Have this process leave its process group, if it is in one, before the interpreter ends.

    Nobody does it otherwise: the Trainer leaves the group open. Its threads then go down with the process in no order,
    and a run that trained and saved well can end in "terminate called without an active exception", which the launcher
    takes for a failure. After an error the group stays as it is, since the other processes may be waiting in it.
    """
    atexit.register(_leave)


def _leave() -> None:
    failed = getattr(sys, "last_value", None) is not None
    if not failed and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
