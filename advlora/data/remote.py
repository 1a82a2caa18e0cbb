"""Shards that lie elsewhere: fetched once per node into the cache folder, whole or not at all.

Whatever leaves this module, be it a message, a name or a hash, holds an address without user, password and query.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tarfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from advlora.data.cache import CACHE_VARIABLE, cache_folder
from advlora.errors import DataError
from advlora.identity import fingerprint
from advlora.kept import FULL, draft_of, unwritable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Found = TypeVar("Found")

PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
"""Scheme of an address -> the package that fsspec needs for it."""
SCHEMES = tuple(f"{scheme}://" for scheme in PACKAGES)
TRIES = 3
PAUSE = 2.0
"""Seconds before the second try; doubled before each further one."""
SILENCE = 60.0
"""Seconds without a byte after which a connection counts as lost."""
MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "blob_id", "oid", "Last-Modified", "LastModified", "updated")
"""What the servers call that which changes with a file."""
FINAL = (FileNotFoundError, PermissionError, ImportError)
PASSING = (408, 425, 429)
"""Refusals by HTTP that another try may not meet."""

log = logging.getLogger("advlora")


class Torn(Exception):
    """A download ended early."""


def bare(text: str) -> str:
    """Returns an address, or a text with addresses in it, without users, passwords and queries."""
    text = re.sub(r"(\w+://)[^/\s'\"]*@", r"\1", text)
    return re.sub(r"(\w+://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1", text)


def missing_package(url: str) -> str | None:
    """Says which package an address needs that is not installed."""
    try:
        _located(url)
    except DataError as error:
        return error.problems[0]
    return None


@lru_cache(maxsize=65536)
def described(url: str) -> tuple[str, int | None, str]:
    """Returns address, size in bytes and mark (ETag or the like) of a file, as its server tells them.

    Raises:
        DataError: If the server does not answer, has no such file, or tells nothing that changes with it.
    """
    system, path = _located(url)
    info = _tried(url, lambda: system.info(path))
    mark = next((str(info[name]) for name in MARKS if info.get(name)), "")
    if not mark:
        raise DataError(f"shard '{bare(url)}': its server tells no ETag; give its sha256 in dataset.json")
    return bare(url), info.get("size"), mark


def forget() -> None:
    """Makes the next look at a file without a known hash ask its server again."""
    described.cache_clear()


def key_of(url: str, sha256: str) -> str:
    """Names the content of a file: by its hash where that is known, else by what its server tells."""
    return sha256 or fingerprint(*described(url))


def fetched(url: str, sha256: str) -> Path:
    """Returns the copy of a file on this node; the first process that asks downloads it, the others wait.

    Args:
        url: The file.
        sha256: Its hash; empty where it is not known.

    Raises:
        DataError: If it cannot be downloaded whole, is not what the hash says, or the cache folder is full.
    """
    file = cache_folder("shards") / key_of(url, sha256)
    if file.exists():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                _tried(url, lambda: _download(url, sha256, file))
    except OSError as error:
        remedy = f"free space there, or name another folder with {CACHE_VARIABLE}"
        raise DataError(unwritable(file.parent, error, remedy)) from error
    return file


def _download(url: str, sha256: str, file: Path) -> None:
    from fsspec import Callback

    system, path = _located(url)
    progress = Callback()
    with draft_of(file) as draft:
        system.get_file(path, str(draft), callback=progress)
        size, told = draft.stat().st_size, progress.size or (None if sha256 else described(url)[1])
        if told is not None and size < told:
            raise Torn(f"the download ended after {size:,} of {told:,} bytes")
        if sha256:
            _compare(url, draft, sha256, whole=told is not None)
        else:
            _read_through(draft)


def _compare(url: str, file: Path, sha256: str, *, whole: bool) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found == sha256:
        return
    if not whole:
        raise Torn("its content does not have the manifest's hash")
    raise DataError(changed(bare(url), found, sha256))


def _read_through(file: Path) -> None:
    """Reads the headers of an archive to its end."""
    try:
        with tarfile.open(file) as archive:
            for _ in archive:
                pass
    except (tarfile.TarError, EOFError) as error:
        raise Torn(f"the archive ends early, or is none: {error}") from error


def changed(where: str, found: str, expected: str) -> str:
    """Says that a shard is not what the manifest says."""
    return (
        f"shard '{where}' is damaged or was changed: its SHA-256 is {found[:12]}..., "
        f"the manifest says {expected[:12]}..."
    )


def _located(url: str) -> tuple[AbstractFileSystem, str]:
    """Returns the file system of an address, and the path in it."""
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    try:
        system, path = url_to_fs(url, **(_http() if scheme in ("http", "https") else {}))
    except ImportError as error:
        package = PACKAGES[scheme]
        raise DataError(f"shard '{bare(url)}' needs the package {package}: pip install {package}") from error
    return system, str(path)


def _http() -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    # Bytes as they lie there, for the hash is that of the file, and through a proxy where the environment names one.
    return {"client_kwargs": {"timeout": timeout, "trust_env": True, "headers": {"Accept-Encoding": "identity"}}}


def _tried(url: str, work: Callable[[], Found]) -> Found:
    """Calls `work` until it succeeds, `TRIES` times at most, and says why it is called again.

    Raises:
        DataError: If it never succeeds, or fails in a way in which it always would.
    """
    for number in range(1, TRIES + 1):
        try:
            return work()
        except DataError:
            raise
        except Exception as error:  # the file systems of fsspec share no base class of errors
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            reason = bare(_reason(error))
            if _final(error):
                raise DataError(f"shard '{bare(url)}' cannot be read: {reason}") from None
        if number < TRIES:
            log.warning("shard '%s': %s; trying again (%d of %d)", bare(url), reason, number + 1, TRIES)
            time.sleep(PAUSE * 2 ** (number - 1))
    raise DataError(f"shard '{bare(url)}' cannot be downloaded, tried {TRIES} times: {reason}")


def _final(error: Exception) -> bool:
    """Whether another try would meet the same."""
    status = getattr(_cause(error), "status", None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in PASSING
    return isinstance(_cause(error), FINAL)


def _cause(error: BaseException) -> BaseException:
    """Returns what went wrong: fsspec calls every failure of HTTP a file that is not found."""
    return error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error


def _reason(error: Exception) -> str:
    cause = _cause(error)
    status = getattr(cause, "status", None)
    if isinstance(status, int):
        return f"its server answers {status} {getattr(cause, 'message', '')}".rstrip()
    if isinstance(cause, FileNotFoundError):
        return "it does not exist"
    return f"{cause}".splitlines()[0] if f"{cause}" else type(cause).__name__
