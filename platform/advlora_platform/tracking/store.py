"""Which MLflow store is used, and how it is opened: quickly, quietly, and with one sentence when it cannot be."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from advlora.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
SQLITE = "sqlite:///"
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the default retries for minutes; the spool keeps what fails
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # failures are told once, by the tracker
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""What the driver sets unless the environment says otherwise."""
ATTEMPTS, PAUSE = 3, 0.5
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST")
"""Error codes of calls that would fail again."""

T = TypeVar("T")


def tracking_uri() -> str:
    """Returns `MLFLOW_TRACKING_URI`, else the database `mlflow.db` of the working folder; file names are absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db"
    if not uri.startswith(SQLITE):
        return uri
    name, mark, query = uri.removeprefix(SQLITE).partition("?")
    return f"{SQLITE}{Path(name).absolute()}{mark}{query}"


def public_uri(uri: str) -> str:
    """Returns the URI without user, password and query, for files and messages."""
    scheme, place, path, _, _ = urlsplit(uri)
    if scheme == "sqlite":
        return uri.partition("?")[0]
    return urlunsplit((scheme, place.rpartition("@")[2], path, "", ""))


def database_file(uri: str) -> Path | None:
    """Returns the file of an SQLite store; None for any other store."""
    return Path(public_uri(uri).removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def on_server(uri: str) -> bool:
    """Whether the store is a tracking server, which has a UI of its own."""
    return urlsplit(uri).scheme in SERVERS


def ui_command(uri: str, host: str, port: int) -> list[str]:
    """Returns the command of the MLflow server with its UI on a store; one worker is enough for one person."""
    store = ["--backend-store-uri", uri]
    return [sys.executable, "-m", "mlflow", "server", *store, "--host", host, "--port", str(port), "--workers", "1"]


def open_store(uri: str) -> MlflowClient:
    """Opens a store; an SQLite file is created, or migrated to the installed schema, before anyone else uses it.

    Raises:
        UserError: If the scheme is unknown, the server does not answer, or the database cannot be written.
    """
    _check_scheme(uri)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with explained(uri):
        if not on_server(uri):
            _check_database(uri)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
        client = MlflowClient(uri, registry_uri=uri)
        client.get_experiment_by_name("Default")
    return client


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into one sentence that names the store and no credentials."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        remedy = "" if "MLFLOW_TRACKING_URI" not in os.environ else "; unset MLFLOW_TRACKING_URI to log to ./mlflow.db"
        # The cause is not chained: its text may hold credentials.
        raise UserError(f"the MLflow store {public_uri(uri)} cannot be used: {reason(uri, error)}{remedy}") from None


def persistent(call: Callable[[], T]) -> T:
    """Makes a call that may be repeated up to three times, as a store may fail now and then."""
    for _ in range(ATTEMPTS - 1):
        try:
            return call()
        except UserError:
            raise
        except Exception as error:
            if refused(error):
                raise
            time.sleep(PAUSE)
    return call()


def refused(error: Exception) -> bool:
    """Whether the store answered that it does not take the call, now or later."""
    return getattr(error, "error_code", None) in REFUSALS


def reason(uri: str, error: BaseException) -> str:
    """Says in one line, without credentials, why a call failed."""
    text = str(error).strip() or type(error).__name__
    if on_server(uri) and "failed with exception" in text:
        return "the server does not answer" + (" in time" if "timeout" in text.lower() else "")
    for secret in _secrets(uri):
        text = text.replace(secret, "***")
    return text.splitlines()[0][:300]


def _secrets(uri: str) -> list[str]:
    """Lists the parts of a URI that must not be shown, longest first."""
    parts = urlsplit(uri)
    user = parts.netloc.rpartition("@")[0]
    query = parts.query if parts.scheme != "sqlite" else ""
    words = {uri, user, query, parts.password or "", unquote(parts.password or "")} - {"", public_uri(uri)}
    return sorted(words, key=len, reverse=True)


def _check_scheme(uri: str) -> None:
    scheme, separator, _ = uri.partition("://")
    kind = scheme.partition("+")[0]
    if separator and kind in {*DATABASES, *SERVERS}:
        return
    named = f"scheme '{scheme}' in MLFLOW_TRACKING_URI" if separator else f"MLFLOW_TRACKING_URI {public_uri(uri)!r}"
    nearest = did_you_mean(kind, [*DATABASES, *SERVERS]) if separator else ""
    others = " or ".join(f"{name}://" for name in (*DATABASES[1:], *SERVERS))
    raise UserError(f"{named} is not allowed{nearest}; use sqlite:///FILE.db, {others}")


def _check_database(uri: str) -> None:
    """Connects once: MLflow itself would try for minutes."""
    import sqlalchemy

    file = database_file(uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            if file is not None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                connection.exec_driver_sql("PRAGMA user_version = 1")  # a write, which is never committed
    except sqlalchemy.exc.DBAPIError as error:
        raise OSError(str(error.orig)) from None
    finally:
        engine.dispose()
