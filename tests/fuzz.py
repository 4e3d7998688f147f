"""Random and mutated input to the parsers of what users bring: refused with a message, or read.

`python -m tests.fuzz --inputs 2000` writes docs/fuzz.md; a few of each kind are in the tests. An
input is lost if it ends in anything else than an InputError.
"""

import argparse
import dataclasses
import io
import tarfile
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.artifacts import ROOT, write_text
from pipeline.checkpoint import load
from pipeline.config import DatasetConfig
from pipeline.data.base import Prepared
from pipeline.data.download import extract
from pipeline.data.sources import folder
from pipeline.data.splits import Split, read_list, read_split, write_split
from pipeline.params import load_params
from pipeline.pictures import ORIENTATION, read_mask, read_rgb
from pipeline.report.spec import load_paper
from pipeline.typed import InputError, InputErrors
from tests.prepared import make_prepared

REPORT = ROOT / "docs/fuzz.md"
Parser = Callable[[bytes, Path], None]
"""Reads a file of the given bytes in a folder of its own."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A parser, and whole inputs to mutate."""

    parser: Parser
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    """What is put into inputs beside random bytes."""


def as_file(name: str, read: Callable[[Path], object]) -> Parser:
    """A parser of a file of that name."""

    def parse(content: bytes, root: Path) -> None:
        (root / name).write_bytes(content)
        read(root / name)

    return parse


def picture(mode: str, kind: str) -> bytes:
    """A small image file."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def archive(kind: str) -> bytes:
    """A small archive."""
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("top/a.txt", b"a" * 99)
            zipped.writestr("top/b.txt", b"b")
    else:
        with tarfile.open(fileobj=file, mode="w:gz" if kind == "tgz" else "w") as tar:
            for name in ("top/a.txt", "top/b.txt"):
                member = tarfile.TarInfo(name)
                member.size = 5
                tar.addfile(member, io.BytesIO(b"12345"))
    return file.getvalue()


def written(content: object) -> bytes:
    """What `torch.save` makes of it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def read_own_folder(content: bytes, root: Path) -> None:
    """classes.yaml beside one image and its mask."""
    for part in ("images", "masks"):
        (root / part).mkdir()
        for name in "ab":
            Image.new("L", (4, 4)).save(root / part / f"{name}.png")
    (root / "classes.yaml").write_bytes(content)
    list(folder.samples(root, DatasetConfig("folder")))


def read_own_mask(content: bytes, root: Path) -> None:
    """A mask of indices or colours."""
    (root / "classes.yaml").write_text("[{name: a, color: [0, 0, 0]}, {name: b, color: [9, 9, 9]}]")
    (root / "mask.png").write_bytes(content)
    folder.read_own_mask(root / "mask.png", folder.read_legend(root / "classes.yaml"))


def read_own_list(content: bytes, root: Path) -> None:
    """val.txt."""
    (root / "val.txt").write_bytes(content)
    problems: list[str] = []
    folder.read_val(root / "val.txt", {"a", "b"}, {"a"}, problems)
    if problems:
        raise InputErrors(problems)


def unpack(kind: str) -> Parser:
    """An archive."""
    return as_file(f"x.{kind}", lambda path: extract(path, path.parent / "out"))


def targets(root: Path) -> dict[str, Target]:
    """Every parser by name; `root` is for what they read beside."""
    data = make_prepared(root / "mini")
    index = (data.root / "index.json").read_bytes()
    split = Split("mini", "drawn", "standard", 2, 0, ("t0", "t1", "t2"), ("t3", "t4", "t5"))
    write_split(root / "split.json", split)
    study = (ROOT / "studies/smoke.yaml").read_bytes()
    paper = (ROOT / "paper.yaml").read_bytes()
    yaml_words = (
        b"&a ",
        b"*a",
        b"!!python/name:os.system",
        b"<<: ",
        b"- ",
        b": ",
        b"[",
        b"{",
        b"|",
    )
    yaml_words += (
        b"null",
        b"1e999",
        b"-1",
        b"nan",
        b"2026-13-01",
        b"0x",
        b"\xff",
        b"\x00",
        b"%YAML",
    )
    own = b"classes:\n  - {name: a, color: [0, 0, 0]}\n  - {name: b}\nignore: [[1, 2, 3]]\n"

    def prepared(path: Path) -> None:
        Prepared.open(path.parent)

    def state(path: Path) -> None:
        load(path)

    lists = (b"a\nb\n", b"JPEGImages/2007_1.jpg SegmentationClass/2007_1.png\n", b"./a.jpg\n")
    pictures = tuple(
        picture(mode, kind)
        for mode, kind in (
            ("RGB", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("LA", "PNG"), ("P", "GIF"),
            ("RGB", "TIFF"), ("RGB", "BMP"), ("RGBA", "WEBP"), ("1", "PNG"), ("I;16", "PNG"),
        )
    )  # fmt: skip
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in ("JPEG", "PNG", "WEBP"):
        file = io.BytesIO()
        Image.new("RGB", (9, 11)).save(file, kind, exif=exif)
        pictures += (file.getvalue(),)
    masks = tuple(picture(mode, "PNG") for mode in ("L", "P", "RGB", "1"))
    checkpoint = written({"step": 1, "method": {"w": torch.ones(3)}})
    return {
        "params.yaml": Target(as_file("params.yaml", load_params), (study,), yaml_words),
        "paper.yaml": Target(as_file("paper.yaml", load_paper), (paper,), yaml_words),
        "classes.yaml": Target(read_own_folder, (own, b"[a, b]"), yaml_words),
        "val.txt": Target(read_own_list, (b"a\n",), (b"\n", b"\xef\xbb\xbf", b"\xff", b"\x00")),
        "list of images": Target(
            as_file("list.txt", lambda path: read_list("labeled", path)), lists, (b"\n", b" ", b"/")
        ),
        "index.json": Target(
            as_file("index.json", prepared), (index,), (b"null", b"[]", b"{}", b"1e9")
        ),
        "split.json": Target(
            as_file("split.json", lambda path: read_split(path, data)),
            ((root / "split.json").read_bytes(),),
            (b"null", b"[]", b"{}", b'"t0"'),
        ),
        "image": Target(as_file("x.png", read_rgb), pictures),
        "mask": Target(as_file("m.png", read_mask), masks),
        "mask in colours": Target(read_own_mask, masks),
        "tar": Target(unpack("tar"), (archive("tar"),), (b"../", b"/etc/", b"\x00")),
        "tgz": Target(unpack("tgz"), (archive("tgz"),)),
        "zip": Target(unpack("zip"), (archive("zip"),), (b"../", b"/etc/")),
        "model or state": Target(
            as_file("state.pt", state), (checkpoint,), (b"cos\nsystem\n", b".")
        ),
    }


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Whole inputs with pieces cut, doubled, flipped, or put in; now and then random bytes."""
    word = st.one_of(
        st.binary(max_size=8), *([st.sampled_from(target.words)] if target.words else [])
    )
    place = st.floats(0, 1, exclude_max=True)
    edit = st.tuples(st.sampled_from(("cut", "put", "flip", "double", "end")), place, place, word)

    def edited(content: bytes, edits: list) -> bytes:
        for kind, where, length, new in edits:
            i = int(where * (len(content) + 1))
            j = min(len(content), i + 1 + int(length**4 * len(content)))
            if kind == "cut":
                content = content[:i] + content[j:]
            elif kind == "put":
                content = content[:i] + new + content[i:]
            elif kind == "flip":
                content = (
                    content[:i] + bytes(b ^ 0xFF for b in content[i : i + 1]) + content[i + 1 :]
                )
            elif kind == "double":
                content = content[:j] + content[i:j] + content[j:]
            else:
                content = content[:i]
        return content

    whole = st.builds(edited, st.sampled_from(target.seeds), st.lists(edit, min_size=1, max_size=6))
    return st.one_of(whole, whole, whole, st.binary(max_size=200))


def outcome(target: Target, content: bytes) -> str:
    """`read`, `refused`, or what else came of an input."""
    with tempfile.TemporaryDirectory() as root:
        try:
            target.parser(content, Path(root))
        except InputError:
            return "refused"
        except Exception:
            return traceback.format_exc()
        return "read"


def fuzz(target: Target, number: int, start: int = 0) -> Counter:
    """Outcomes of so many inputs, drawn from a fixed seed."""
    found: Counter = Counter()

    @seed(start)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def run(content: bytes) -> None:
        found[outcome(target, content)] += 1

    run()
    return found


def main() -> None:
    """Fuzzes every parser and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=2000, help="of each parser")
    given_ = parser.parse_args()
    lines, traces = [], []
    with tempfile.TemporaryDirectory() as root:
        for name, target in targets(Path(root)).items():
            found = fuzz(target, given_.inputs)
            lost = {text: n for text, n in found.items() if text not in ("read", "refused")}
            cells = (sum(found.values()), found["read"], found["refused"], sum(lost.values()))
            lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
            traces += [f"{name}, {n} times:\n{text}" for text, n in lost.items()]
    text = [
        "# Fuzzing",
        "",
        f"As `python -m tests.fuzz --inputs {given_.inputs}` found it: whole files with pieces",
        "cut, flipped, doubled or put in, and random bytes (hypothesis, fixed seed), given to",
        "the parsers of what users bring. Refused: with a message. Lost: anything else.",
        "",
        "| input | tried | read | refused | lost |",
        "| --- | ---: | ---: | ---: | ---: |",
        *lines,
    ]
    write_text(REPORT, "\n".join(text) + "\n")
    if traces:
        raise SystemExit("\n".join(traces))


if __name__ == "__main__":
    main()
