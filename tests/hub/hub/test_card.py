"""The card holds what was measured and nothing else: a figure that is absent leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from vlkd_hub.bundle import read_manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.hub.card import MARK, model_card
from vlkd_hub.hub.facts import CardFacts, read_facts, scores
from vlkd_hub.hub.names import RepoName

from .small import write_bundle

REPO = RepoName("me/shapes")
WAY = {"r@1": 0.5, "r@5": 0.75, "r@10": 1.0, "median_rank": 1.0, "chance_r@10": 0.02}
REPORT: dict[str, Any] = {
    "model": "runs/student",
    "data": "/home/me/scenes",
    "splits": {
        "test": {
            "retrieval": {"text_to_image": WAY},
            "caption": {"cider": 2.25, "spice": None},
            "vqa": {"accuracy": 0.5, "baseline": 0.25},
        }
    },
}
LATENCY = {"torch_ms": 69.0, "onnx_ms": 30.5, "http_ms": None, "batch_size": 1, "threads": 2, "load_average": [0.5]}


def front(card: ModelCard) -> dict[str, Any]:
    return yaml.safe_load(str(card).split("---")[1])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_bare_student_says_little() -> None:
    """No evaluation, no parity, no speed, no lineage: no such heading and no empty table."""
    text = str(model_card(REPO, CardFacts(model_type="vlkd", has_student=True)))
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# shapes", "## Use it"]
    assert "model-index" not in text
    assert "None" not in text
    assert "OnnxStudent" not in text


def test_evaluation_is_a_model_index(bundle: Path) -> None:
    """The Hub draws its table from it, so it must come back as it went in."""
    facts = CardFacts(model_type="vlkd", has_student=True, evaluation=[REPORT], data_name="scenes 1.0")
    card = model_card(REPO, facts)
    results = {result.metric_name: result for result in ModelCard(str(card)).data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "R@1, text to image": 0.5,
        "R@5, text to image": 0.75,
        "R@10, text to image": 1.0,
        "CIDEr": 2.25,
        "VQA accuracy": 0.5,
    }
    assert {result.dataset_name for result in results.values()} == {"scenes 1.0"}
    assert results["CIDEr"].task_type == "image-to-text"
    text = str(card)
    assert "| scenes 1.0, test | R@10, text to image | 100.0 % | 2.0 % |" in text
    assert "| scenes 1.0, test | VQA accuracy | 50.0 % | 25.0 % |" in text
    assert "SPICE" not in text


def test_the_folder_of_the_data_is_cut_to_its_name() -> None:
    assert {score.data for score in scores(REPORT)} == {"scenes"}


def test_parity_comes_from_the_manifest(bundle: Path) -> None:
    facts = CardFacts(model_type="vlkd", has_student=False, bundle=read_manifest(bundle))
    text = str(model_card(REPO, facts))
    assert "| decoder | 1.2e-05 | 1.0e-08 |" in text
    assert "16 captions and answers, with 1 beams, equal token by token." in text
    assert front(model_card(REPO, facts))["library_name"] == "onnx"


def test_equal_texts_are_claimed_for_fp32_only(tmp_path: Path) -> None:
    """A quantized bundle may write other words and still be what was asked for."""
    manifest = read_manifest(write_bundle(tmp_path / "int8", precision="int8"))
    text = str(model_card(REPO, CardFacts(model_type="vlkd", has_student=False, bundle=manifest)))
    assert "token by token" not in text
    assert "int8" in text


def test_latency_size_and_picture(bundle: Path) -> None:
    facts = CardFacts(
        model_type="vlkd",
        has_student=True,
        bundle=read_manifest(bundle),
        latency=LATENCY,
        sizes={"weights": 12_345_678},
        picture="bundle/pareto.png",
    )
    text = str(model_card(REPO, facts))
    assert "| size of the weights | 12.3 MB |" in text
    assert "| onnx, milliseconds | 30.5 |" in text
    assert "| threads | 2 |" in text
    assert "http" not in text.split("## Latency")[1].split("##")[0]
    assert "![Quality against latency and size](bundle/pareto.png)" in text


def test_figures_in_the_manifest_are_used(tmp_path: Path) -> None:
    """Whoever exports or quantizes a bundle notes what it costs, and on which processor."""
    latency = {"image_encoder_ms": 4.25, "cpu": "some processor", "threads": 2, "load_average": [0.1]}
    folder = write_bundle(tmp_path / "b", latency=latency, quantization={"image_encoder": "int8"})
    facts = CardFacts(model_type="vlkd", has_student=False, bundle=read_manifest(folder), latency=LATENCY)
    text = str(model_card(REPO, facts))
    assert "| image encoder, milliseconds | 4.2 |" in text
    assert "| cpu | some processor |" in text
    assert "| onnx, milliseconds | 30.5 |" in text
    assert '"image_encoder": "int8"' in text


def test_lineage_and_licence_of_the_data() -> None:
    facts = CardFacts(
        model_type="vlkd", has_student=True, lineage={"teacher": "a | b"}, data_license="CC-BY-4.0, see X."
    )
    text = str(model_card(REPO, facts))
    assert "| teacher | a \\| b |" in text
    assert "## Licence of the data\n\nCC-BY-4.0, see X." in text


def test_the_owners_words_go_into_the_front_matter() -> None:
    metadata = {"license": "apache-2.0", "tags": ["shapes", "vlkd"], "language": "en", "base_model": "openai/clip"}
    data = front(model_card(REPO, CardFacts(model_type="vlkd", has_student=True, metadata=metadata)))
    assert (data["license"], data["language"], data["base_model"]) == ("apache-2.0", "en", "openai/clip")
    assert data["tags"] == ["vision-language", "distillation", "vlkd-hub", "vlkd", "shapes"]


def test_a_revision_is_named_in_the_code(bundle: Path) -> None:
    facts = CardFacts(model_type="vlkd", has_student=True, bundle=read_manifest(bundle))
    text = str(model_card(RepoName("me/shapes", "v1"), facts))
    assert 'from_pretrained("me/shapes", revision="v1", trust_remote_code=True)' in text
    assert 'OnnxStudent.from_pretrained("me/shapes@v1")' in text


def test_the_code_is_code(bundle: Path) -> None:
    """It is run against a server in test_fresh_environment.py; here it compiles, in every form."""
    for model_type in ("vlkd", "vlkd_dual_encoder"):
        facts = CardFacts(model_type=model_type, has_student=True, bundle=read_manifest(bundle))
        blocks = str(model_card(REPO, facts)).split("```python\n")[1:]
        assert len(blocks) == 2
        for block in blocks:
            compile(block.split("```")[0], "README.md", "exec")


def test_the_card_says_how_to_keep_it() -> None:
    assert str(model_card(REPO, CardFacts(model_type="vlkd", has_student=True))).endswith(f"{MARK}\n")


@pytest.mark.parametrize("metadata", [{"tags": 3}, {"eval_results": "none"}, {"model-index": [1]}])
def test_metadata_that_no_card_can_hold(metadata: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="card's metadata cannot be used"):
        model_card(REPO, CardFacts(model_type="vlkd", has_student=True, metadata=metadata))


@pytest.mark.parametrize(("name", "text"), [("a.json", "{"), ("a.yaml", "a: [1"), ("a.yaml", "- 1"), ("b.json", "[]")])
def test_files_for_the_card_that_cannot_be_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=name):
        read_facts(tmp_path / name)
    with pytest.raises(InvalidInputError, match="absent.json"):
        read_facts(tmp_path / "absent.json")
