from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from pipeline.typed import ConfigError, at_least, did_you_mean, from_mapping, within


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5

    def check(self, key: str) -> None:
        at_least(key, "size", self.size, 1)
        within(key, "rate", self.rate, 0.0, 1.0)


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    mode: Literal["whole", "sliding"] = "whole"
    stride: Literal[8, 16] = 16
    crop: tuple[int, int] = (4, 4)
    scales: tuple[float, ...] = ()
    limit: int | None = None
    flip: bool = False
    several: dict[str, Inner] = field(default_factory=dict)
    free: Any = None


VALID = {"name": "a", "inner": {"size": 3}}


def test_what_is_not_given_has_its_default():
    assert from_mapping(Outer, VALID, "") == Outer("a", Inner(3, 0.5))


def test_every_kind_of_field_is_converted():
    given = {
        "name": "a",
        "inner": {"size": 3, "rate": 1},
        "mode": "sliding",
        "stride": 8,
        "crop": [1, 2],
        "scales": [1, 0.5],
        "limit": 7,
        "flip": True,
        "several": {"x": {"size": 1}, 2: {"size": 2}},
        "free": [1, {"b": None}],
    }
    want = Outer(
        "a",
        Inner(3, 1.0),
        "sliding",
        8,
        (1, 2),
        (1.0, 0.5),
        7,
        True,
        {"x": Inner(1), "2": Inner(2)},
        [1, {"b": None}],
    )
    got = from_mapping(Outer, given, "")
    assert got == want
    assert type(got.inner.rate) is type(got.scales[0]) is float


def test_null_is_taken_only_where_it_is_allowed():
    assert from_mapping(Outer, VALID | {"limit": None}, "").limit is None
    with pytest.raises(ConfigError, match=r"^mode: found None; expected one of whole, sliding$"):
        from_mapping(Outer, VALID | {"mode": None}, "")


@dataclass(frozen=True)
class Layered:
    inner: Inner = field(default_factory=lambda: Inner(7, 0.25))
    none: Inner | None = None
    some: Inner | None = Inner(2)


def test_a_nested_mapping_is_laid_over_the_default_of_its_field():
    assert from_mapping(Layered, {"inner": {"rate": 1.0}}, "").inner == Inner(7, 1.0)
    assert from_mapping(Layered, {"some": {"rate": 1.0}}, "").some == Inner(2, 1.0)
    assert from_mapping(Layered, {"some": None}, "").some is None
    with pytest.raises(ConfigError, match=r"^inner\.size: 0; expected at least 1$"):
        from_mapping(Layered, {"inner": {"size": 0}}, "")


def test_a_field_without_a_default_wants_its_whole_mapping():
    with pytest.raises(ConfigError, match=r"^none\.size: missing; expected an integer$"):
        from_mapping(Layered, {"none": {"rate": 1.0}}, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": 1}, "nmae: unknown; did you mean 'name'? known: crop, flip, free, inner, "),
        ({"zzz": 1}, "zzz: unknown; known: crop, flip, "),
        ({"inner": {"size": 1, "rat": 1}}, "inner.rat: unknown; did you mean 'rate'?"),
        ({"inner": {}}, "inner.size: missing; expected an integer"),
        ({"inner": None}, "inner: found None; expected a mapping"),
        ({"inner": {"size": 0}}, "inner.size: 0; expected at least 1"),
        ({"inner": {"size": 1, "rate": 2}}, "inner.rate: 2.0; expected 0.0 to 1.0"),
        (
            {"inner": {"size": 1, "rate": "5e-3"}},
            "inner.rate: found '5e-3'; expected a number (write 5.0e-3 or 0.005)",
        ),
        ({"inner": {"size": 1, "rate": float("nan")}}, "inner.rate: found nan; expected a number"),
        ({"inner": {"size": 1, "rate": float("inf")}}, "inner.rate: found inf; expected a number"),
        ({"inner": {"size": 1, "rate": True}}, "inner.rate: found True; expected a number"),
        ({"inner": {"size": True}}, "inner.size: found True; expected an integer"),
        ({"inner": {"size": 1.0}}, "inner.size: found 1.0; expected an integer"),
        ({"inner": {"size": "1"}}, "inner.size: found '1'; expected an integer"),
        ({"name": 1}, "name: found 1; expected text"),
        ({"flip": 1}, "flip: found 1; expected true or false"),
        ({"mode": "hole"}, "mode: found 'hole'; expected one of whole, sliding"),
        ({"stride": 16.0}, "stride: found 16.0; expected one of 8, 16"),
        ({"crop": [1]}, "crop: found [1]; expected a list of 2, each an integer"),
        ({"crop": 4}, "crop: found 4; expected a list of 2, each an integer"),
        ({"crop": [1, "2"]}, "crop[1]: found '2'; expected an integer"),
        ({"scales": 1.0}, "scales: found 1.0; expected a list, each a number"),
        ({"limit": 0.5}, "limit: found 0.5; expected an integer"),
        ({"several": [1]}, "several: found [1]; expected a mapping"),
        ({"several": {"x": {"size": "1"}}}, "several.x.size: found '1'; expected an integer"),
    ],
)
def test_an_error_names_key_found_and_expected(change, message):
    with pytest.raises(ConfigError) as error:
        from_mapping(Outer, VALID | change, "")
    assert str(error.value).startswith(message)
    with pytest.raises(ConfigError) as error:
        from_mapping(Outer, VALID | change, "some.section")
    assert str(error.value).startswith("some.section." + message)


def test_a_missing_key_says_what_it_would_be():
    with pytest.raises(ConfigError, match=r"^inner: missing; expected a mapping$"):
        from_mapping(Outer, {"name": "a"}, "")


@pytest.mark.parametrize("found", [None, [], "text", 3])
def test_the_whole_has_to_be_a_mapping(found):
    with pytest.raises(ConfigError, match=r"^top level: found .*; expected a mapping$"):
        from_mapping(Outer, found, "")


@pytest.mark.parametrize("value", [float("nan"), -0.1])
def test_a_range_refuses_what_is_not_in_it(value):
    with pytest.raises(ConfigError, match=r"^a\.b: .*; expected at least 0$"):
        at_least("a", "b", value, 0)
    with pytest.raises(ConfigError, match=r"^a\.b: .*; expected 0 to 1$"):
        within("a", "b", value, 0, 1)


def test_a_range_includes_its_ends():
    at_least("a", "b", 0, 0)
    within("a", "b", 0, 0, 1)
    within("a", "b", 1, 0, 1)


@pytest.mark.parametrize(
    ("found", "known", "text"),
    [
        ("stgp", ["supervised", "stpg"], "did you mean 'stpg'? known: stpg, supervised"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("a", [], "known: none"),
        (
            "b35",
            [f"b{i}" for i in range(10, 42)],
            f"did you mean 'b35'? known: {', '.join(f'b{i}' for i in range(10, 40))} and 2 more",
        ),
    ],
)
def test_the_nearest_known_name_is_offered(found, known, text):
    assert did_you_mean(found, known) == text
