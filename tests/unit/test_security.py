"""Nothing given from outside runs code, leaves its folder, or comes unchecked.

Elsewhere: names in configurations and YAML's tags (test_config_fuzz), members of archives that lead out of their folder
and wrong hashes (test_data_download), a hostile CIFAR-10 pickle (test_data_files).
"""

from __future__ import annotations

import ast
import hashlib
import http.server
import io
import os
import pickle
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.data import fetch
from analysis.store.netcdf import read_dataset
from analysis.store.tensors import read_tensors
from sharpflat.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for folder in ("analysis", "workflow", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
]
RULES = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]
ALLOWED = {  # numpy's arrays alone
    ("analysis/data/cifar.py", "pickle"),
    ("analysis/data/cifar.py", "pickle.Unpickler"),
    ("analysis/data/pixel_statistics.py", "np.load"),  # a tracked file, with allow_pickle=False
}

MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "telnetlib", "ftplib"}
FUNCTIONS = {"eval", "exec", "compile"}
ATTRIBUTES = {  # module -> what must not be taken from it
    "os": {"system", "popen"},
    "pickle": {"load", "loads", "Unpickler"},
    "torch": {"load", "save"},
    "np": {"load", "save", "savez"},
    "numpy": {"load", "save", "savez"},
    "yaml": {"unsafe_load", "full_load", "load_all", "Loader", "UnsafeLoader", "FullLoader"},
    "shutil": {"unpack_archive"},
    "pooch": {"Unzip", "Untar", "create"},
    "ssl": {"_create_unverified_context"},
}
METHODS = {"extractall", "extract", "read_pickle", "to_pickle"}


def dangers(tree: ast.Module) -> Iterator[str]:
    """What in a module could run code from data, hand text to a shell, or leave TLS."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (n.name for n in names if n.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (module for _ in [0] if module.partition(".")[0] in MODULES)
                yield from (f"{module}.{n.name}" for n in names if n.name in ATTRIBUTES.get(module, ()))
            case ast.Attribute(value=ast.Name(id=module), attr=name) if name in ATTRIBUTES.get(module, ()):
                yield f"{module}.{name}"
            case ast.Attribute(attr=name) if name in METHODS:
                yield name
            case ast.Constant(value=str(text)) if text.startswith(("http:", "ftp:")):
                yield text
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in FUNCTIONS:
                yield called
            if given.get("shell", "False") != "False":
                yield "shell"
            # (Whether a subspace is verified has nothing to do with TLS.)
            if given.get("verify", "True") != "True" and called != "DominantSubspace":
                yield "verify"
            if given.get("allow_pickle", "False") != "False":
                yield "allow_pickle"
            if called == "yaml.load" and given.get("Loader") not in ("_StrictLoader", "yaml.SafeLoader"):
                yield called
            if called.endswith("retrieve") and not re.match(
                r"f?'(sha256|md5):|known_hash$", given.get("known_hash", "")
            ):
                yield f"{called} without a hash"


def test_no_source_can_run_data() -> None:
    assert len(SOURCES) > 50
    found = {
        (str(path.relative_to(ROOT)), danger)
        for path in SOURCES
        for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import joblib.memory",
        "from pickle import loads",
        "from os import system",
        "pickle.load(file)",
        "os.system(f'rm {name}')",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=bool(name))",
        "eval(text)",
        "exec(text)",
        "torch.load(path)",
        "torch.save(state, path)",
        "np.load(path, allow_pickle=True)",
        "xr.open_dataset(path, allow_pickle=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.CLoader)",
        "yaml.unsafe_load(text)",
        "archive.extractall(folder)",
        "requests.get(url, verify=False)",
        "URL = 'http://example.org/x.zip'",
        "pooch.retrieve(url, known_hash=None)",
        "fetch.retrieve(url)",
    ],
)
def test_each_danger_is_found(code: str) -> None:
    assert list(dangers(ast.parse(code)))


def test_rules_call_scripts_and_no_shell() -> None:
    assert len(RULES) > 5
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        found = re.findall(
            r"^\s*(?:shell|run|notebook|wrapper|cwl)\s*:|\b(?:shell|eval|exec|system|popen)\(", text, re.M
        )
        assert found == [], path
        assert set(re.findall(r'"(\.\./scripts/[^"]*)"', text)) <= {
            f"../scripts/{script.name}" for script in (ROOT / "workflow" / "scripts").glob("*.py")
        }


# ---------------------------------------------------------------- files of results
class _Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("read", [read_dataset, read_tensors])
@pytest.mark.parametrize("packed", ["pickle", "torch"])
def test_a_pickle_under_a_results_name_is_not_opened(
    packed: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    content = pickle.dumps(_Evil(tmp_path / "created"))
    if packed == "torch":  # a zip archive with a pickle, as torch.save writes it
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        content = buffer.getvalue()
    path = tmp_path / "state.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no readable"):
        read(path)
    assert not (tmp_path / "created").exists()


# ---------------------------------------------------------------- downloads
@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server: `/big` has 1,000 bytes, `/endless` more without saying how many; `/to?<address>` leads
    there."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/to?"):
                self.send_response(302)
                self.send_header("Location", self.path.partition("?")[2])
                self.end_headers()
                return
            self.send_response(200)
            if self.path == "/big":
                self.send_header("Content-Length", "1000")
            self.end_headers()
            try:
                for _ in range(1 if self.path == "/big" else 10_000):
                    self.wfile.write(b"x" * 1000)
            except OSError:
                self.close_connection = True  # whoever asked has had enough

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(fetch, "SCHEMES", ("http",))  # no certificate for 127.0.0.1
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


BIG = f"sha256:{hashlib.sha256(b'x' * 1000).hexdigest()}"


@pytest.mark.parametrize("address", ["/big", "/to?/big", "/to?/to?/big"])
def test_a_download_may_be_redirected(address: str, served: str, tmp_path: Path) -> None:
    fetch.retrieve(served + address, known_hash=BIG, path=tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("address", ["/to?https://127.0.0.1:1/x", "/to?/to?https://127.0.0.1:1/x", "/to?file:///etc/x"])
def test_a_redirect_to_another_scheme_is_refused(address: str, served: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^{address.rpartition('?')[2]}: downloads use http only$"):
        fetch.retrieve(served + address, known_hash=BIG, path=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "//127.0.0.1/x", "x"]
)
def test_only_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="downloads use https only"):
        fetch.retrieve(url, known_hash=BIG, path=tmp_path / "x")


@pytest.mark.parametrize("known_hash", [None, "", "sha256:", f"sha256:{'0' * 64}", "md5:0"])
def test_no_download_without_its_hash(known_hash: str, served: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hash"):
        fetch.retrieve(f"{served}/big", known_hash=known_hash, path=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["/big", "/endless"])
def test_a_download_that_is_too_long_ends(
    address: str, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MOST_BYTES", 999)
    with pytest.raises(ValueError, match=f"{address}: longer than 999 bytes"):
        fetch.retrieve(served + address, known_hash=BIG, path=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- archives
def tar_of(path: Path, name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size, info.mode = kind, "/etc/hostname", len(content), 0o4777
        archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_only_plain_files_are_unpacked(kind: bytes, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", "x", kind)
    with pytest.raises(ValueError, match="x is no plain file"):
        fetch.unpack(archive, ["x"], tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "./x"])
@pytest.mark.parametrize("packed", ["tar.gz", "zip"])
def test_names_in_an_archive_have_no_say(name: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"evil")
    else:
        tar_of(path, name, content=b"evil")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="broken archive"):
        fetch.unpack(path, ["x"], tmp_path / "out")
    assert [p for p in tmp_path.rglob("*") if p not in before] == [tmp_path / "out"]


@pytest.mark.parametrize("packed", ["tar.gz", "zip"])
def test_a_file_that_unpacks_to_too_much(packed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"a.{packed}"
    if packed == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x", b"0" * 10**7)
    else:
        tar_of(path, "x", content=b"0" * 10**7)
    monkeypatch.setattr(fetch, "MOST_BYTES", 10**6)
    with pytest.raises(ValueError, match=rf"a\.{packed}: x: longer than 1,000,000 bytes"):
        fetch.unpack(path, ["x"], tmp_path / "out")
    assert (tmp_path / "out" / "x").stat().st_size < 2 * 10**6
