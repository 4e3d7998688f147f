import errno
import hashlib
import io
import os
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data import download
from pipeline.data.download import Archive, extract, fetch, link_tree

DATA = bytes(range(256)) * 20
WRONG = b"<html>moved</html>"
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


class Mirror(BaseHTTPRequestHandler):
    """Serves DATA from any path; the path's first letters say what goes wrong."""

    def do_GET(self):
        start = 0
        if (asked := self.headers["Range"]) and not self.path.startswith("/no-range"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append((self.path, asked))
        body = WRONG if self.path.startswith("/wrong") else DATA
        if self.path.startswith("/missing"):
            return self.send_error(404)
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = 1000 if self.path.startswith("/cut") else len(body)
        self.wfile.write(body[start:][:cut])
        return None

    def log_message(self, *args):
        """Keeps the test's output clean."""


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def archive_at(server, monkeypatch):
    """Makes the archive whose mirrors are the named paths; `server.asked` starts empty."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.asked = []

    def make(*paths: str, **changes: object) -> Archive:
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{path}" for path in paths)
        fields = {"algorithm": "sha256", "digest": hashlib.sha256(DATA).hexdigest()} | changes
        return Archive("data.tar", urls, **fields)

    return make


def test_fetch_gets_the_file_whole(archive_at, tmp_path):
    path = fetch(archive_at("good", size=len(DATA)), tmp_path / "new" / "folder")
    assert path == tmp_path / "new/folder/data.tar"
    assert path.read_bytes() == DATA
    assert os.listdir(path.parent) == ["data.tar"]


def test_fetch_reuses_a_file_whose_checksum_holds(archive_at, server, tmp_path):
    (tmp_path / "data.tar").write_bytes(DATA)
    digest = hashlib.md5(DATA).hexdigest()
    assert fetch(archive_at("good", algorithm="md5", digest=digest), tmp_path).exists()
    assert server.asked == []


def test_fetch_replaces_a_file_whose_checksum_does_not_hold(archive_at, tmp_path):
    (tmp_path / "data.tar").write_bytes(DATA[:-1])
    assert fetch(archive_at("good"), tmp_path).read_bytes() == DATA


def test_fetch_resumes_a_partial_file(archive_at, server, tmp_path):
    (tmp_path / "data.tar.partial").write_bytes(DATA[:3000])
    assert fetch(archive_at("good"), tmp_path).read_bytes() == DATA
    assert server.asked == [("/good", "bytes=3000-")]


def test_fetch_starts_over_where_the_server_ignores_range(archive_at, server, tmp_path):
    (tmp_path / "data.tar.partial").write_bytes(DATA[:3000])
    assert fetch(archive_at("no-range"), tmp_path).read_bytes() == DATA
    assert server.asked == [("/no-range", "bytes=3000-")]


def test_fetch_takes_a_partial_file_that_lacks_nothing(archive_at, server, tmp_path):
    (tmp_path / "data.tar.partial").write_bytes(DATA)
    assert fetch(archive_at("good"), tmp_path).read_bytes() == DATA
    assert server.asked == [("/good", f"bytes={len(DATA)}-")]


@pytest.mark.parametrize("length", [3000, len(DATA), len(DATA) + 10])
def test_fetch_recovers_from_a_partial_file_of_something_else(archive_at, tmp_path, length):
    (tmp_path / "data.tar.partial").write_bytes(b"x" * length)
    assert fetch(archive_at("good"), tmp_path).read_bytes() == DATA


def test_fetch_goes_on_at_the_next_mirror_where_one_broke_off(archive_at, server, tmp_path):
    assert fetch(archive_at("cut", "good"), tmp_path).read_bytes() == DATA
    assert server.asked == [("/cut", None), ("/good", "bytes=1000-")]


def test_fetch_leaves_a_mirror_that_serves_another_file(archive_at, server, tmp_path):
    assert fetch(archive_at("wrong", "good"), tmp_path).read_bytes() == DATA
    assert server.asked == [("/wrong", None), ("/good", None)]


def test_fetch_keeps_the_beginning_for_the_next_call(archive_at, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"closed after 1000 of {len(DATA)} bytes"):
        fetch(archive_at("cut"), tmp_path)
    assert os.listdir(tmp_path) == ["data.tar.partial"]
    assert fetch(archive_at("good"), tmp_path).read_bytes() == DATA


def test_fetch_lists_each_mirror_and_its_reason_when_all_fail(archive_at, tmp_path):
    (tmp_path / "data.tar").write_bytes(b"by hand")
    archive = archive_at("missing", "wrong")
    nowhere = Archive("data.tar", (*archive.urls, "http://127.0.0.1:1/x"), "sha256", archive.digest)
    with pytest.raises(FileNotFoundError) as error:
        fetch(nowhere, tmp_path)
    message = str(error.value)
    wrong = hashlib.sha256(WRONG).hexdigest()
    assert f"{tmp_path}/data.tar: 7 bytes of sha256 " in message
    assert f"{archive.urls[0]}: HTTPError: HTTP Error 404: Not Found" in message
    assert f"{archive.urls[1]}: 18 bytes of sha256 {wrong}; expected {archive.digest}" in message
    assert "http://127.0.0.1:1/x: URLError: " in message
    assert message.endswith(f"put it at {tmp_path}/data.tar")
    assert os.listdir(tmp_path) == ["data.tar"]


def test_fetch_checks_the_published_size(archive_at, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{len(DATA)} bytes; expected 7"):
        fetch(archive_at("good", size=7), tmp_path)


def test_fetch_on_a_full_disk_stops_and_leaves_nothing(archive_at, server, tmp_path, monkeypatch):
    class FullFile(io.BytesIO):
        def write(self, block):
            raise NO_SPACE

    def open_full(path, mode="r", **options):
        path.touch()
        return FullFile()

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match=rf"no space left to write {tmp_path}/data\.tar") as error:
        fetch(archive_at("good", "other"), tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert server.asked == [("/good", None)]
    assert os.listdir(tmp_path) == []


FILES = {"top/a/1.txt": b"one", "top/a/2.png": os.urandom(2000), "top/b/3.txt": b"three" * 1000}


def make_tar(path, files=FILES, *special: tarfile.TarInfo):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in special:
            tar.addfile(member)


def make_zip(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)


def make(path, files=FILES):
    (make_zip if path.suffix == ".zip" else make_tar)(path, files)
    return path


def files_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


KINDS = ["x.tar", "x.tgz", "x.zip"]


@pytest.mark.parametrize("kind", KINDS)
def test_extract_unpacks_everything(tmp_path, kind):
    extract(make(tmp_path / kind), tmp_path / "out")
    assert files_of(tmp_path / "out") == FILES
    assert sorted(os.listdir(tmp_path)) == ["out", kind]


@pytest.mark.parametrize("kind", KINDS)
def test_extract_unpacks_what_fits_the_patterns(tmp_path, kind):
    path = make(tmp_path / kind, {f"./{name}": data for name, data in FILES.items()})
    extract(path, tmp_path / "out", ["top/a/*.txt", "top/b/3.txt"])
    assert sorted(files_of(tmp_path / "out")) == ["top/a/1.txt", "top/b/3.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_extract_says_when_nothing_fits(tmp_path, kind):
    with pytest.raises(ValueError, match=rf"{kind}: it has no file \*/1\.txt; is it another"):
        extract(make(tmp_path / kind), tmp_path / "out", ["top/a/*", "*/1.txt"])
    assert os.listdir(tmp_path) == [kind]


def test_extract_keeps_what_other_archives_put_there(tmp_path):
    extract(make(tmp_path / "x.tar", {"one/a": b"a", "readme": b"1"}), tmp_path / "out")
    extract(make(tmp_path / "x.zip", {"two/b": b"b", "readme": b"2"}), tmp_path / "out")
    assert files_of(tmp_path / "out") == {"one/a": b"a", "two/b": b"b", "readme": b"2"}


@pytest.fixture(scope="module")
def cut_places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    return {kind: make(folder / kind).read_bytes() for kind in KINDS}, folder


@given(kind=st.sampled_from(KINDS), part=st.floats(0, 1, exclude_max=True))
def test_extract_names_an_archive_cut_short_anywhere(cut_places, kind, part):
    whole, folder = cut_places
    end = len(whole[kind])
    if kind == "x.tar":  # its end mark is padded, by how much is the writer's choice
        end = len(whole[kind].rstrip(b"\0")) // 512 * 512 + 2 * 512
    size = int(end * part)
    (folder / kind).write_bytes(whole[kind][:size])
    with pytest.raises(ValueError, match=rf"{kind}: cut short or damaged \({size} bytes found; "):
        extract(folder / kind, folder / "out")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_extract_names_an_archive_with_a_damaged_member(tmp_path, kind):
    path = make(tmp_path / kind)
    data = bytearray(path.read_bytes())
    # The second header of the tar, and compressed data of the others.
    place = data.index(b"top/a/2.png") if kind == "x.tar" else len(data) // 3
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{kind}: cut short or damaged"):
        extract(path, tmp_path / "out")
    assert os.listdir(tmp_path) == [kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "..\\evil"])
def test_extract_refuses_a_member_outside_the_target(tmp_path, kind, name):
    path = make(tmp_path / kind, FILES | {name: b"evil"})
    with pytest.raises(ValueError, match=rf"{kind}: refused, since .*evil' is outside the desti"):
        extract(path, tmp_path / "out", ["top/a/*"])
    assert os.listdir(tmp_path) == [kind]


def special(kind, linkname=""):
    member = tarfile.TarInfo("evil")
    member.type, member.linkname = kind, linkname
    return member


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "../secret"),
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "../secret"),
        special(tarfile.CHRTYPE),
        special(tarfile.FIFOTYPE),
    ],
    ids=["symlink out", "absolute symlink", "hard link out", "device", "fifo"],
)
def test_extract_refuses_links_out_and_special_files(tmp_path, member):
    make_tar(tmp_path / "x.tar", FILES, member)
    with pytest.raises(ValueError, match=r"x\.tar: refused, since .*evil"):
        extract(tmp_path / "x.tar", tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.tar"]


def test_extract_refuses_a_link_in_a_zip(tmp_path):
    member = zipfile.ZipInfo("evil")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr(member, "../secret")
    with pytest.raises(ValueError, match=r"x\.zip: refused, since 'evil' is a link"):
        extract(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize(("kind", "writer"), [("x.tar", tarfile.copyfileobj), ("x.zip", None)])
def test_extract_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch, kind, writer):
    path = make(tmp_path / kind)

    def no_space(*args, **options):
        raise NO_SPACE

    monkeypatch.setattr(tarfile if writer else download.shutil, "copyfileobj", no_space)
    with pytest.raises(OSError, match=f"no space left to write {tmp_path}/out") as error:
        extract(path, tmp_path / "out")
    assert error.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [kind]


@pytest.fixture
def tree(tmp_path):
    for name, data in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    return tmp_path / "source"


def test_link_tree_links_what_fits_the_patterns(tree, tmp_path):
    link_tree(tree, tmp_path / "out", ["top/*/*.txt", "top/a/*"])
    assert files_of(tmp_path / "out") == FILES
    assert (tmp_path / "out/top/b/3.txt").samefile(tree / "top/b/3.txt")


def test_link_tree_tells_names_and_contents_apart(tree, tmp_path):
    def linked(*patterns: str) -> str:
        return link_tree(tree, tmp_path / "out", patterns)

    first = linked("top/*/*.txt", "top/a/*")
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    (tree / "top/b/5.dat").write_bytes(b"not asked for")
    assert linked("top/a/*", "top/*/*.txt") == first
    assert linked("top/a/*") != first
    (tree / "top/b/3.txt").rename(tree / "top/b/4.txt")
    assert (renamed := linked("top/*/*.txt", "top/a/*")) != first
    (tree / "top/b/4.txt").write_bytes(b"another")
    assert linked("top/*/*.txt", "top/a/*") not in (first, renamed)


def test_link_tree_links_the_file_behind_a_symlink(tree, tmp_path):
    (tree / "top/a/4.txt").symlink_to(tree / "top/b/3.txt")
    link_tree(tree, tmp_path / "out", ["top/a/4.txt"])
    assert not (tmp_path / "out/top/a/4.txt").is_symlink()
    assert (tmp_path / "out/top/a/4.txt").samefile(tree / "top/b/3.txt")


def refuse_links(monkeypatch):
    def cross_device(*args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", cross_device)


def test_link_tree_copies_where_it_cannot_link(tree, tmp_path, monkeypatch):
    refuse_links(monkeypatch)
    link_tree(tree, tmp_path / "out", ["top/*/*"])
    assert files_of(tmp_path / "out") == FILES
    assert not (tmp_path / "out/top/b/3.txt").samefile(tree / "top/b/3.txt")


def test_link_tree_replaces_an_earlier_link_and_not_what_it_links_to(tree, tmp_path, monkeypatch):
    (tmp_path / "out/top/b").mkdir(parents=True)
    os.link(tree / "top/a/1.txt", tmp_path / "out/top/b/3.txt")
    refuse_links(monkeypatch)
    link_tree(tree, tmp_path / "out", ["top/b/*"])
    assert files_of(tmp_path / "out") == {"top/b/3.txt": FILES["top/b/3.txt"]}
    assert files_of(tree) == FILES


def test_link_tree_says_when_nothing_fits(tree, tmp_path):
    with pytest.raises(ValueError, match=r"source: it has no file top/\*\.png; is it the publish"):
        link_tree(tree, tmp_path / "out", ["top/*.png"])


def test_link_tree_on_a_full_disk_leaves_no_half_copied_file(tree, tmp_path, monkeypatch):
    def copy_half(source, place):
        place.write_bytes(source.read_bytes()[:1])
        raise NO_SPACE

    refuse_links(monkeypatch)
    monkeypatch.setattr(download.shutil, "copyfile", copy_half)
    with pytest.raises(OSError, match=r"no space left to write .*out/top/b/3\.txt"):
        link_tree(tree, tmp_path / "out", ["top/b/*"])
    assert files_of(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["x.tgz", "x.zip"])
def test_extract_refuses_what_would_fill_the_disk(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("pipeline.data.download.MAX_UNPACKED", 1 << 20)
    path = make(tmp_path / kind, {f"top/{k}.txt": bytes(1 << 19) for k in range(3)})
    assert path.stat().st_size * 50 < 3 << 19
    with pytest.raises(ValueError, match=r"refused, since up to 'top/2.txt' it holds more than 50"):
        extract(path, tmp_path / "out")
    assert os.listdir(tmp_path) == [kind]
    extract(path, tmp_path / "out", ["top/1.txt"])
    monkeypatch.setattr("pipeline.data.download.MAX_FILES", 2)
    make(path, {f"top/{k}.txt": b"" for k in range(3)})
    with pytest.raises(ValueError, match=r"refused, since up to 'top/2.txt' .*more than 2 files"):
        extract(path, tmp_path / "out")
