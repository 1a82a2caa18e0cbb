"""One Ray session per command: on this machine, or on the cluster that `RAY_ADDRESS` names."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from advlora.errors import UserError, first_line
from advlora_platform.execution.address import expect_cluster

SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # the default of 2 s delays the end of every worker group
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in a configuration keep their meaning
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # ledger and tracker hold what Tune would write again
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a failed trial reports no metric
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the ledger makes Tune's slow goodbye unnecessary
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer output prints a table even when told to be quiet
    "RAY_worker_maximum_startup_concurrency": "8",  # the slot of a group is eight processes; fewer draw a warning
}


@contextmanager
def session() -> Iterator[None]:
    """Joins the cluster, or starts Ray on this machine; leaves it as it was.

    Raises:
        UserError: If no cluster answers at `RAY_ADDRESS`, or Ray does not start here.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.pop("RAY_ADDRESS", None)  # Ray takes an empty one for an address
    address = os.environ.get("RAY_ADDRESS", "local")
    expect_cluster(address)
    # Without an address Ray would silently join whatever cluster runs on this machine.
    local = {"include_dashboard": False} if address == "local" else {}
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Ray prints remarks of its own on stdout, which belongs to the result of the command.
    with redirect_stdout(sys.stderr):
        try:
            with _own_sigterm():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except Exception as error:  # a node that does not come up raises a bare Exception
            where = "on this machine" if address == "local" else f"at RAY_ADDRESS={address}"
            raise UserError(f"no Ray {where}: {first_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps the program's handler: Ray puts its own in its place, which prints a stack trace of C++ as well."""
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as stop:
        if stop.code == signal.SIGTERM:  # Ray's handler was the faster one
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)
