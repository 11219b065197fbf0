"""The certificate in a bundle: what torch answered, asked again of the bundle."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlkd_export.certificate import check_certificate, read_certificate
from vlkd_export.golden import GoldenPicture
from vlkd_hub.errors import BundleError, ParityError
from vlkd_hub.runtime import OnnxStudent


@pytest.fixture(scope="module")
def student(tiny_bundle: Path) -> OnnxStudent:
    return OnnxStudent.from_pretrained(tiny_bundle, threads=1)


@pytest.fixture
def certificate(tiny_bundle: Path) -> dict[str, Any]:
    return copy.deepcopy(read_certificate(tiny_bundle))


def test_an_untouched_bundle_passes(student: OnnxStudent, certificate: dict[str, Any]) -> None:
    """Pictures, texts, captions and answers of the drawn set."""
    report = check_certificate(student, certificate)
    assert report["pictures"] == 16 and report["texts"] == 64
    assert report["max_abs"] < 1e-5


def test_every_kind_of_answer_is_compared(student: OnnxStudent, certificate: dict[str, Any]) -> None:
    """One number off anywhere must fail, or that part is not looked at."""
    drawn = certificate["sets"]["drawn"]
    for vectors in (certificate["text_embeds"], drawn["image_embeds"]):
        vectors[-1][-1] += 0.01
        with pytest.raises(ParityError, match="embeddings of the"):
            check_certificate(student, certificate)
        vectors[-1][-1] -= 0.01
    for task in ("caption", "vqa"):
        for search in ("tokens", "beams"):
            drawn[search][task][-1][0] ^= 1
            with pytest.raises(ParityError, match=f"task '{task}' writes another text for drawn-15"):
                check_certificate(student, certificate)
            drawn[search][task][-1][0] ^= 1
    assert set(certificate["sketches"]) == {"visual_states", "text_states", "caption_logits", "vqa_logits"}
    for name, rows in certificate["sketches"].items():
        rows[-1][-1] += 0.01
        with pytest.raises(ParityError, match=f"sketches of {name}"):
            check_certificate(student, certificate)
        rows[-1][-1] -= 0.01
    certificate["text_ids"][0][1] ^= 1
    with pytest.raises(ParityError, match="tokenizer is not the one"):
        check_certificate(student, certificate)
    certificate["text_ids"][0][1] ^= 1
    drawn["image_embeds"].pop()
    with pytest.raises(ParityError, match="inf"):
        check_certificate(student, certificate)


def test_other_pictures_prove_nothing(student: OnnxStudent, certificate: dict[str, Any]) -> None:
    """A data set that changed, or was never given, cannot be compared with."""
    data = [GoldenPicture("x.png", Image.new("RGB", (9, 9)), "what?")]
    with pytest.raises(ParityError, match="data pictures are not those"):
        check_certificate(student, certificate, data)
    certificate["sets"]["drawn"]["digest"] = "0" * 64
    with pytest.raises(ParityError, match="drawn pictures are not those"):
        check_certificate(student, certificate)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"sets": {}, "text_embeds": []}'])
def test_a_broken_certificate_is_told(text: str | None, tmp_path: Path) -> None:
    """Absent, cut or empty."""
    (tmp_path / "golden").mkdir()
    if text is not None:
        (tmp_path / "golden" / "expected.json").write_text(text)
    with pytest.raises(BundleError, match="expected.json"):
        read_certificate(tmp_path)


def test_it_is_small(tiny_bundle: Path) -> None:
    """It travels with every bundle."""
    path = tiny_bundle / "golden" / "expected.json"
    assert path.stat().st_size < 100_000
    assert set(json.loads(path.read_text())["sets"]) == {"drawn"}
