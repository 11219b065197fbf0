"""The picture shows what was measured."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from vlkd_export.quantize.pareto import Point, pareto_front, pareto_svg

FP32 = Point(name="fp32", ms=10.0, lost=0.0, bytes=100)
FAST = Point(name="<fast>", ms=2.0, lost=0.4, bytes=25, chosen=True)
WORSE = Point(name="worse", ms=3.0, lost=0.5, bytes=30)
SMALL = Point(name="small", ms=4.0, lost=0.6, bytes=10)


def test_the_front_holds_what_nothing_beats() -> None:
    """Smaller alone is a reason to stay; worse in all three is none."""
    assert pareto_front([FP32, WORSE, SMALL, FAST]) == [FAST, SMALL, FP32]
    assert pareto_front([FAST, FAST]) == [FAST, FAST]


def test_every_point_is_drawn_and_named() -> None:
    """Well-formed, whatever is in a name; right is slower, up is more lost."""
    tree = ElementTree.fromstring(pareto_svg([FP32, FAST, WORSE], "a & b", limit=0.5))
    circles = tree.findall("{http://www.w3.org/2000/svg}circle")
    words = {next(iter(circle)).text.split(":")[0]: circle for circle in circles}
    assert set(words) == {"fp32", "<fast>", "worse"}
    assert float(words["fp32"].get("cx")) > float(words["worse"].get("cx")) > float(words["<fast>"].get("cx"))
    assert float(words["worse"].get("cy")) < float(words["<fast>"].get("cy")) < float(words["fp32"].get("cy"))
    assert float(words["fp32"].get("r")) == 2 * float(words["<fast>"].get("r"))
    assert words["<fast>"].get("fill") == "#2ca02c"


def test_one_point_without_loss_is_a_picture_too() -> None:
    """No scale may be zero wide."""
    assert "nan" not in pareto_svg([FP32], "t", limit=0.0)
