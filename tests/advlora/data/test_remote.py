"""Shards over a real server on this machine, which may lose connections."""

from __future__ import annotations

import http.server
import logging
import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advlora.config import DataConfig
from advlora.data import check_data, load_manifest, load_split, remote
from advlora.data.layouts import forget_listings
from advlora.errors import DataError
from advlora.models import Preprocessing
from tests.advlora.data.shard_files import Folder, grey, write_shard
from tests.limits import files_of_at_most

pytestmark = pytest.mark.unit


class Server:
    """Serves the files of a folder.

    Attributes:
        folder: The files.
        torn: Name of a file -> how often its download still ends early.
        broken: Name of a file -> how often the server still fails.
        told: Whether it tells how long a file is.
        etag: What it calls the present content of every file; none if empty.
        asked: How often each file was downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.torn: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.told, self.etag, self.asked = True, "first", Counter[str]()
        handler = type("Handler", (Handler,), {"server_of": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients go before the end
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, name: str, user: str = "", query: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.http.server_port}/{name}{query}"


class Handler(http.server.BaseHTTPRequestHandler):
    server_of: Server

    def do_HEAD(self) -> None:
        self._begin(self._file())

    def do_GET(self) -> None:
        server, name = self.server_of, self._file().name
        server.asked[name] += 1
        if server.broken[name] > 0:
            server.broken[name] -= 1
            self.send_error(503)
            return
        content = self._begin(self._file())
        if server.torn[name] > 0:
            server.torn[name] -= 1
            content = content[:530]  # within the first file of the archive
        self.wfile.write(content)

    def _file(self) -> Path:
        return self.server_of.folder / self.path.partition("?")[0].lstrip("/")

    def _begin(self, file: Path) -> bytes:
        if not file.is_file():
            self.send_error(404)
            return b""
        content = file.read_bytes()
        self.send_response(200)
        if self.server_of.told:
            self.send_header("Content-Length", str(len(content)))
        if self.server_of.etag:
            self.send_header("ETag", self.server_of.etag)
        self.end_headers()
        return content

    def log_message(self, *arguments: Any) -> None:
        """Stays silent."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ADVLORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    forget_listings()
    yield tmp_path / "cache"
    forget_listings()


@pytest.fixture
def server(folder: Folder) -> Iterator[Server]:
    server = Server(folder.path)
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def far(folder: Folder, server: Server) -> Any:
    """Puts the shard of `val` at an address."""

    def far(user: str = "", query: str = "", **values: str | None) -> DataConfig:
        shard = folder.manifest["splits"]["val"]["shards"][0]
        shard.update({"url": server.url("val.tar", user, query), **values})
        folder.manifest["splits"]["val"]["shards"][0] = {k: v for k, v in shard.items() if v is not None}
        folder.save()
        return DataConfig(name=str(folder.path))

    return far


def captions(config: DataConfig) -> tuple[str, ...]:
    return load_split(config, "val", Preprocessing(8)).captions


def kept(cache: Path) -> list[str]:
    return sorted(file.name for file in (cache / "shards").glob("[!.]*"))


def test_a_shard_is_downloaded_once(server: Server, far: Any, cache: Path) -> None:
    config = far()
    assert check_data(config) == []
    assert [captions(config), captions(config)] == [("caption 0",)] * 2
    assert server.asked == {"val.tar": 1}
    assert kept(cache) == [load_manifest(config).splits["val"].shards[0].sha256]


def test_a_torn_download_is_told_and_tried_again(server: Server, far: Any, caplog: pytest.LogCaptureFixture) -> None:
    config, server.torn["val.tar"], server.broken["val.tar"] = far(), 1, 1
    with caplog.at_level(logging.WARNING, "advlora"):
        assert captions(config) == ("caption 0",)
    first, second = caplog.messages
    assert "its server answers 503" in first
    assert first.endswith("trying again (2 of 3)")
    assert "not" in second or "ended" in second
    assert second.endswith("trying again (3 of 3)")


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("pinned", [True, False])
def test_a_download_that_is_always_torn_is_one_sentence_and_leaves_nothing(
    server: Server, far: Any, cache: Path, told: bool, pinned: bool
) -> None:
    config, server.told, server.torn["val.tar"] = far(**({} if pinned else {"sha256": None})), told, 9
    with pytest.raises(DataError, match=r"val\.tar' cannot be downloaded, tried 3 times: ") as refused:
        captions(config)
    assert len(refused.value.problems) == 1
    asked = server.asked["val.tar"] - (not told and not pinned)  # a server that tells no size is asked twice for it
    assert asked == 3
    assert kept(cache) == []


def test_what_is_not_there_is_not_tried_again(server: Server, far: Any, folder: Folder) -> None:
    config = far()
    (folder.path / "val.tar").unlink()
    with pytest.raises(DataError, match=r"shard 'http://127.*val\.tar' cannot be read: it does not exist"):
        captions(config)
    assert server.asked == {"val.tar": 1}


def test_a_server_that_is_not_there_is_one_sentence(far: Any) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded, tried 3 times: Cannot connect to host 127\.0\.0\.1:1"):
        captions(far(url="http://127.0.0.1:1/val.tar"))


def test_another_content_than_the_manifests_is_refused_at_once(server: Server, far: Any, cache: Path) -> None:
    with pytest.raises(DataError, match=r"http://127.*val\.tar' is damaged or was changed: its SHA-256"):
        captions(far(sha256="0" * 64))
    assert server.asked == {"val.tar": 1}
    assert kept(cache) == []


def test_a_damaged_copy_is_fetched_anew_by_the_next_reader(server: Server, far: Any, cache: Path) -> None:
    config = far()
    captions(config)
    (copy,) = (cache / "shards").glob("[!.]*")
    copy.write_bytes(b"damage")
    with pytest.raises(DataError, match="is damaged or was changed"):
        captions(config)
    assert captions(config) == ("caption 0",)
    assert server.asked == {"val.tar": 2}


def test_without_a_hash_size_and_etag_identify_the_content(server: Server, far: Any, folder: Folder) -> None:
    config = far(sha256=None)
    first = load_manifest(config).hash
    assert captions(config) == ("caption 0",)
    server.etag = "second"
    write_shard(folder.path / "val.tar", [{"png": grey(7), "cls": b"1", "txt": b"another"}])
    forget_listings()
    assert load_manifest(config).hash != first
    assert captions(config) == ("another",)
    server.etag = ""
    forget_listings()
    with pytest.raises(DataError, match=r"tells no ETag; give its sha256 in dataset\.json"):
        load_manifest(config)


def test_a_local_shard_needs_its_hash(folder: Folder) -> None:
    del folder.manifest["splits"]["val"]["shards"][0]["sha256"]
    folder.save()
    assert "sha256 is missing; only a shard at an address" in check_data(DataConfig(name=str(folder.path)))[0]


SECRETS = {"user": "someone:secret@", "query": "?token=secret"}


def test_credentials_reach_the_server_and_nothing_else(
    server: Server, far: Any, folder: Folder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load_manifest(far(sha256=None)).hash
    forget_listings()
    config, server.torn["val.tar"], server.broken["val.tar"] = far(**SECRETS, sha256=None), 1, 1
    assert captions(config) == ("caption 0",)
    assert load_manifest(config).hash == plain
    assert "secret" not in caplog.text
    assert not [file for file in cache.rglob("*") if "secret" in file.name]
    forget_listings()
    (folder.path / "val.tar").unlink()
    with pytest.raises(DataError) as refused:
        load_manifest(config)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://a:b@host/x.tar?X-Amz-Signature=c#d", "https://host/x.tar"),
        ("404 for 'https://host/x?t=1', sorry", "404 for 'https://host/x', sorry"),
        ("hf://datasets/owner/name@main/x.tar", "hf://datasets/owner/name@main/x.tar"),
        ("s3://bucket/x@2.tar", "s3://bucket/x@2.tar"),
    ],
)
def test_addresses_are_told_without_credentials(text: str, said: str) -> None:
    assert remote.bare(text) == said


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_package_that_is_missing_is_named_before_anything_runs(far: Any, scheme: str, package: str) -> None:
    try:
        __import__(package)
    except ImportError:
        said = check_data(far(url=f"{scheme}://bucket/val.tar"))
        assert said == [f"shard '{scheme}://bucket/val.tar' needs the package {package}: pip install {package}"]
    else:
        pytest.skip(f"{package} is installed")


def test_an_unknown_scheme_is_refused(far: Any) -> None:
    (said,) = check_data(far(url="ftp://someone:secret@host/val.tar"))
    assert "must be a path inside the folder of the data set, or start with http://" in said
    assert "hf://" in said
    assert "secret" not in said


def test_the_hub_is_known(far: Any) -> None:
    assert check_data(far(url="hf://datasets/owner/name/val.tar")) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(far: Any, cache: Path) -> None:
    config = far()
    with files_of_at_most(1000), pytest.raises(DataError, match=r"cannot write to .*shards': File too large; free"):
        captions(config)
    assert kept(cache) == []
    assert not [file for file in (cache / "shards").iterdir() if file.suffix != ".lock"]


def _read(config: DataConfig, start: Any) -> None:
    start.wait()
    assert captions(config) == ("caption 0",)


def test_the_processes_of_a_node_download_once(server: Server, far: Any) -> None:
    context = multiprocessing.get_context("fork")
    config, start = far(), context.Barrier(2)
    processes = [context.Process(target=_read, args=(config, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 2
    assert server.asked == {"val.tar": 1}
