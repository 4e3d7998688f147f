"""Which training images keep their labels: drawn here, or imported from published lists."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_json
from pipeline.config import SplitConfig
from pipeline.data.base import Prepared
from pipeline.params import read_text
from pipeline.typed import InputError

DRAWN = "drawn"
PLAIN = "plain"

LINE_FORMS = (
    ("cps", r"/?images/train/(?P<id>[^/\s]+)\.png\s+/?segmentation/train/(?P=id)_gtFine\.png"),
    ("u2pl", r"leftImg8bit/train/[^/\s]+/(?P<id>[^/\s]+)_leftImg8bit\.png"),
    ("unimatch", r"JPEGImages/(?P<id>[^/\s]+)\.jpg\s+SegmentationClass/(?P=id)\.png"),
    (
        "unimatch",
        r"leftImg8bit/train/[^/\s]+/(?P<id>[^/\s]+)_leftImg8bit\.png\s+"
        r"gtFine/train/[^/\s]+/(?P=id)_gtFine_labelTrainIds\.png",
    ),
    (PLAIN, r"(?P<id>[^/]+)"),
)
"""A line of each family's lists. CPS and U2PL both write VOC images as plain ids."""


@dataclass(frozen=True)
class Split:
    """The training set of one data set in two parts; the validation set is in neither."""

    dataset: str
    family: str
    """`drawn`, or whose lists they are: `cps`, `u2pl`, `unimatch`, or `plain` for bare ids."""
    protocol: str
    partition: int
    seed: int
    """Of the draw; an imported split does not depend on it."""
    labeled: tuple[str, ...]
    """Ids, sorted."""
    unlabeled: tuple[str, ...]


def make_split(prepared: Prepared, config: SplitConfig) -> Split:
    """Draws ceil(N / k) labelled images; all other training images are unlabelled.

    The N images of the protocol are put into one order by the seed, and a partition takes its
    first ones: with one seed, the images of 1/16 are among those of 1/8. The order is by SHA-256
    of seed and id, so it is the same with every version of every library.

    Raises:
      ValueError: the protocol has no image, or fewer than one is to be labelled.
    """
    assert config.labeled is None
    pool = draw_pool(prepared, config.protocol)
    if len(pool) < config.partition:
        raise InputError(
            f"partition: 1/{config.partition} of {len(pool)} images is less than one image; "
            f"{prepared.name} has that many {describe_pool(config.protocol)}"
        )
    order = sorted(pool, key=lambda id: hashlib.sha256(f"{config.seed} {id}".encode()).digest())
    return new_split(prepared, config, DRAWN, order[: math.ceil(len(pool) / config.partition)])


def draw_pool(prepared: Prepared, protocol: str) -> list[str]:
    """Ids of the training images that a protocol draws the labelled ones from."""
    return [
        item.id
        for item in prepared.train
        if item.mask is not None and (item.fine or protocol != "classic")
    ]


def describe_pool(protocol: str) -> str:
    """What the images of `draw_pool` are, for messages."""
    return f"training images with a {'fine mask' if protocol == 'classic' else 'mask'} ({protocol})"


def new_split(
    prepared: Prepared,
    config: SplitConfig,
    family: str,
    labeled: Iterable[str],
    unlabeled: Iterable[str] | None = None,
) -> Split:
    """A checked split; `unlabeled` is by default all the rest of the training set."""
    labeled = sorted(labeled)
    if unlabeled is None:
        unlabeled = {item.id for item in prepared.train} - set(labeled)
    split = Split(
        prepared.name,
        family,
        config.protocol,
        config.partition,
        config.seed,
        tuple(labeled),
        tuple(sorted(unlabeled)),
    )
    check_split(split, prepared)
    return split


def import_lists(prepared: Prepared, config: SplitConfig, root: Path) -> Split:
    """The split of published lists, in any form of `LINE_FORMS`.

    The family follows from the lines. Where they are plain ids, or UniMatch's lines of VOC images,
    in which it published the others' lists too, it is the one that the path names as a word
    (`cps/1-8/labeled.txt`, `unimatch/u2pl_1_8/labeled.txt`; the last such word), if any.

    Args:
      prepared: the data set that the lists are about.
      config: its `labeled` is set; `unlabeled` is by default all the rest.
      root: what relative paths are relative to.

    Raises:
      ValueError: a list that is missing, cannot be read, or does not fit the data set.
    """
    assert config.labeled is not None
    labeled, family = read_list("labeled", root / config.labeled)
    unlabeled = None
    if config.unlabeled is not None:
        unlabeled, other = read_list("unlabeled", root / config.unlabeled)
        if other != family:
            raise InputError(
                f"{config.unlabeled} has lines of the form {other!r}, {config.labeled} of the form "
                f"{family!r}; expected two lists of one family"
            )
    if family in (PLAIN, "unimatch"):
        words = re.findall(r"[a-z0-9]+", config.labeled.lower())
        family = next((word for word in reversed(words) if word in dict(LINE_FORMS)), family)
    try:
        return new_split(prepared, config, family, labeled, unlabeled)
    except ValueError as error:
        lists = " and ".join(filter(None, (config.labeled, config.unlabeled)))
        raise InputError(f"{lists}: {error}") from None


def read_list(key: str, path: Path) -> tuple[list[str], str]:
    """Ids of a list file in its order, and the form of its lines; blank lines are skipped."""
    if not path.is_file():
        raise InputError(f"{key}: no list at {path}; expected a path relative to data/lists")
    lines = read_text(path).splitlines()
    parsed = [
        (number, *parse_line(f"{path}, line {number}", line.strip()))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not parsed:
        raise InputError(f"{key}: {path} is empty; expected one image a line")
    first, _, form = parsed[0]
    for number, _, other in parsed:
        if other != form:
            raise InputError(
                f"{path}: line {first} has the form {form!r}, line {number} the form {other!r}; "
                "expected one form throughout"
            )
    return [id for _, id, _ in parsed], form


def parse_line(where: str, line: str) -> tuple[str, str]:
    """The id in a line, and the line's form."""
    for form, pattern in LINE_FORMS:
        if match := re.fullmatch(pattern, line):
            return match["id"], form
    raise InputError(
        f"{where}: {line!r} has no known form; expected an id, or a line as CPS, U2PL "
        "or UniMatch publish them"
    )


def check_split(split: Split, prepared: Prepared) -> None:
    """Raises ValueError unless the split is one of this data set's training images.

    Labelled images have masks; no image is in both parts or of the validation set, and
    ceil(N / k) are labelled, as in every published list. A drawn split also has every training
    image; imported lists may leave some out. Lists of plain ids may have any count.
    """
    if split.dataset != prepared.name:
        raise InputError(f"a split of {split.dataset!r}; expected one of {prepared.name!r}")
    if not split.labeled:
        raise InputError("no image is labelled")
    train = {item.id for item in prepared.train}
    listed = set(split.labeled) | set(split.unlabeled)
    val = {item.id for item in prepared.val}
    masked = set(draw_pool(prepared, "standard"))
    for problem, ids in (
        ("more than once in a list", repeated(split.labeled) | repeated(split.unlabeled)),
        (
            "labelled and unlabelled; remove the line from the unlabelled list, or name no such "
            "list to take all the rest",
            set(split.labeled) & set(split.unlabeled),
        ),
        (f"validation images of {prepared.name}", listed & val),
        (f"not among the {len(train)} training images of {prepared.name}", listed - train),
        ("labelled without a mask", set(split.labeled) - masked),
        ("neither labelled nor unlabelled", train - listed if split.family == DRAWN else set()),
    ):
        if ids:
            raise InputError(f"{name_some(ids)}: {problem}")
    if split.family != PLAIN:
        check_count(split, prepared)


def check_count(split: Split, prepared: Prepared) -> None:
    """Raises ValueError unless ceil(N / k) images are labelled."""
    pool = draw_pool(prepared, split.protocol)
    if len(split.labeled) != (expected := math.ceil(len(pool) / split.partition)):
        raise InputError(
            f"{len(split.labeled)} labelled images; expected {expected}, "
            f"1/{split.partition} of {len(pool)} {describe_pool(split.protocol)}"
        )


def repeated(ids: Iterable[str]) -> set[str]:
    """The ids that occur more than once."""
    return {id for id, count in Counter(ids).items() if count > 1}


def name_some(ids: Iterable[str]) -> str:
    """The first three ids, and how many there are if more."""
    ids = sorted(ids)
    more = f", ... ({len(ids)} in all)" if len(ids) > 3 else ""
    return ", ".join(ids[:3]) + more


def write_split(path: Path, split: Split) -> None:
    """Writes a split as JSON with a digest of its content."""
    write_json(path, {**asdict(split), "sha256": digest(asdict(split))})


def read_split(path: Path, prepared: Prepared) -> Split:
    """Reads and checks a split; raises FileNotFoundError or ValueError that says what to run."""
    again = f"run `dvc repro split@{path.stem}`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {again}")
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or content.pop("sha256", None) != digest(content):
            raise InputError("its digest does not fit its content: it was edited by hand")
        parts = {part: tuple(content[part]) for part in ("labeled", "unlabeled")}
        split = Split(**{**content, **parts})
        check_split(split, prepared)
    except ValueError as error:
        raise InputError(f"{path}: {error}; {again} to make it anew") from None
    return split


def digest(content: dict[str, Any]) -> str:
    """SHA-256 of a split's fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
