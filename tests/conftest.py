"""Fixtures that many tests share."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if "ADVLORA_CACHE" not in os.environ:
    os.environ["ADVLORA_CACHE"] = tempfile.mkdtemp(prefix="advlora-cache-")
    atexit.register(shutil.rmtree, os.environ["ADVLORA_CACHE"], ignore_errors=True)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A job in the background of a script ignores Ctrl-C, and so would every command that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
