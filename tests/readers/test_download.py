"""Downloading from a server on this machine: cached, verified, whole or not at all."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.dumps import DUMP, pack

from poincare_taxa.files import atomic
from poincare_taxa.files.atomic import DRAFT
from poincare_taxa.readers import read_ncbi
from poincare_taxa.readers.download import download_ncbi

LATEST = "/new_taxdump/new_taxdump.tar.gz"
PINNED = "/taxdump_archive/new_taxdump_2024-09-01.zip"


class Server:
    """Serves `files`; `promise` makes it announce more bytes than it sends."""

    def __init__(self):
        self.files, self.asked, self.promise = {}, [], {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                data = server.files.get(self.path)
                if data is None:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Length", str(server.promise.get(self.path, len(data))))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    members = {f.name: f.read_bytes() for f in DUMP.iterdir()}
    server.files[LATEST] = pack(tmp_path / "latest.tar.gz", members).read_bytes()
    server.files[PINNED] = pack(tmp_path / "pinned.zip", members).read_bytes()
    digest = hashlib.md5(server.files[LATEST]).hexdigest()
    server.files[LATEST + ".md5"] = f"{digest}  new_taxdump.tar.gz\n".encode()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_download_ncbi__latest_is_verified_readable_and_cached(server, cache):
    seen = []
    path = download_ncbi(
        base_url=server.url, cache_dir=cache, progress=lambda *args: seen.append(args)
    )
    assert len(read_ncbi(path)) == 12
    size = len(server.files[LATEST])
    assert seen[-1] == (size, size)
    assert download_ncbi(base_url=server.url, cache_dir=cache) == path
    assert server.asked.count(LATEST) == 1
    assert server.asked.count(LATEST + ".md5") == 2
    assert list(cache.iterdir()) == [path]


def test_download_ncbi__latest_is_fetched_again_when_it_changed(server, cache):
    path = download_ncbi(base_url=server.url, cache_dir=cache)
    server.files[LATEST] += b"\0" * 512
    digest = hashlib.md5(server.files[LATEST]).hexdigest()
    server.files[LATEST + ".md5"] = digest.upper().encode()
    assert download_ncbi(base_url=server.url, cache_dir=cache) == path
    assert path.read_bytes() == server.files[LATEST]


def test_download_ncbi__pinned_dump_is_fetched_once(server, cache):
    path = download_ncbi("2024-09-01", base_url=server.url, cache_dir=cache)
    assert path.name == "new_taxdump_2024-09-01.zip"
    assert len(read_ncbi(path)) == 12
    digest = hashlib.sha256(server.files[PINNED]).hexdigest()
    dead = cache / f".{path.name}{DRAFT}{atomic._host()}-{2**22 + 1}-0"  # beyond the last process
    dead.mkdir()
    again = download_ncbi("2024-09-01", base_url=server.url, cache_dir=cache, sha256=digest)
    assert again == path
    assert not dead.exists(), "also of a dump that is there"
    assert server.asked == [PINNED]


@pytest.mark.parametrize(
    ("date", "damage", "why"),
    [
        (None, "checksum", r"MD5 hash .* expected (md5:)?0{32} but got .* Nothing was kept"),
        (None, "no checksum", r"new_taxdump\.tar\.gz\.md5: expected an MD5 sum, got '<html>"),
        (None, "interrupted", "broke off .*more expected.* nothing was kept"),
        (None, "missing", "the server answered 404 Not Found"),
        ("2024-09-01", "interrupted", "broke off .*more expected"),
        ("2024-09-01", "zip", "it is no whole zip archive"),
        ("2024-09-01", "crc", "its member nodes.dmp is damaged"),
        ("2024-09-01", "sha256", "SHA256 hash .* expected (sha256:)?abc but got"),
        ("2024-09-02", "nothing", "404 Not Found; dumps of the first of each month"),
    ],
)
@pytest.mark.parametrize("had_one", [False, True])
def test_download_ncbi__leaves_nothing_behind_and_what_was_there_alone(
    server, cache, date, damage, why, had_one
):
    path = LATEST if date is None else PINNED
    before = []
    if had_one and date is None:
        cache.mkdir()
        (cache / "new_taxdump.tar.gz").write_bytes(b"an older one")
        before = [cache / "new_taxdump.tar.gz"]
    if damage == "checksum":
        server.files[path + ".md5"] = b"0" * 32
    elif damage == "no checksum":
        server.files[path + ".md5"] = b"<html>maintenance</html>"
    elif damage == "interrupted":
        server.promise[path] = 999_999
    elif damage == "missing":
        del server.files[path]
    elif damage == "zip":
        server.files[path] = server.files[path][:-40]
    elif damage == "crc":
        server.files[path] = server.files[path].replace(b"cellular root", b"cellular ROOT")
    sha256 = "ABC" if damage == "sha256" else None
    with pytest.raises(OSError, match=why):
        download_ncbi(date, base_url=server.url, cache_dir=cache, sha256=sha256)
    assert (list(cache.iterdir()) if cache.exists() else []) == before
    if before:
        assert before[0].read_bytes() == b"an older one"


def test_download_ncbi__no_server_and_no_date(cache):
    with pytest.raises(OSError, match=r"md5: the transfer broke off"):
        download_ncbi(base_url="http://127.0.0.1:9", cache_dir=cache)
    with pytest.raises(ValueError, match=r"date must be YYYY-MM-DD, .* got 'yesterday'"):
        download_ncbi("yesterday", cache_dir=cache)


def test_download_ncbi__default_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    path = download_ncbi(base_url=server.url)
    assert path == tmp_path / "xdg" / "poincare_taxa" / "new_taxdump.tar.gz"
