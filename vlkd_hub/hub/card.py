"""The model card: front matter with a model-index, and a page a person reads in a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from vlkd_hub._version import __version__
from vlkd_hub.bundle import Manifest
from vlkd_hub.errors import InvalidInputError
from vlkd_hub.hub.facts import CardFacts, Score, scores
from vlkd_hub.hub.names import RepoName

__all__ = ["MARK", "model_card"]

MARK = "<!-- Written by `vlkd push`, and again by the next one. Take this line out to keep the page as it is. -->"
TAGS = ("vision-language", "distillation", "vlkd-hub")
KINDS = {
    "vlkd": "a VLKD student",
    "vlkd_dual_encoder": "a CLIP-style dual encoder",
    "vlkd_smke": "an S-SMKE student",
}
SHARES = ("recall_at_1", "recall_at_5", "recall_at_10", "accuracy")
"""Metrics that are shares of one, shown in percent."""


def model_card(repo: RepoName, facts: CardFacts) -> ModelCard:
    """Fill the card.

    Args:
        repo: where it will stand.
        facts: what is known.

    Returns:
        The card; ``str(card)`` is ``README.md``.

    Raises:
        InvalidInputError: the owner's metadata is not what a card can hold.
    """
    found = [score for report in facts.evaluation for score in scores(report, facts.data_name)]
    try:
        data = ModelCardData(**_metadata(repo, facts, found))
        front = data.to_yaml()
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"The card's metadata cannot be used: {error}") from error
    sections = [f"# {repo.repo_id.split('/')[1]}", *_sections(repo, facts, found), MARK]
    return ModelCard(f"---\n{front}\n---\n\n" + "\n\n".join(sections) + "\n")


def _metadata(repo: RepoName, facts: CardFacts, found: list[Score]) -> dict[str, Any]:
    writes = facts.model_type == "vlkd" and (facts.bundle is None or facts.bundle.generation is not None)
    owner = dict(facts.metadata)
    data: dict[str, Any] = {
        "library_name": "transformers" if facts.has_student else "onnx",
        "pipeline_tag": "image-text-to-text" if writes else "zero-shot-image-classification",
        "tags": [*TAGS, facts.model_type, *(["onnx"] if facts.bundle is not None else []), *owner.pop("tags", [])],
        **owner,
    }
    if found:
        data["model_name"] = data.get("model_name") or repo.repo_id.split("/")[1]
        data["eval_results"] = [_result(score) for score in found]
    return data


def _result(score: Score) -> EvalResult:
    return EvalResult(
        task_type=score.task,
        dataset_type=score.data,
        dataset_name=score.data,
        dataset_split=score.split,
        metric_type=score.metric,
        metric_name=score.name,
        metric_value=round(score.value, 4),
    )


def _sections(repo: RepoName, facts: CardFacts, found: list[Score]) -> Iterator[str]:
    yield _what(facts)
    yield "## Use it"
    if facts.has_student:
        yield _code_torch(repo, facts)
    if facts.bundle is not None:
        yield _code_onnx(repo, facts)
    if found:
        yield "## Evaluation"
        yield _table(("split", "measure", "value", "by guessing"), [_row(score) for score in found])
    if facts.bundle is not None and facts.bundle.parity:
        yield "## Parity of the ONNX graphs with torch"
        yield _parity(facts.bundle)
    speed = [_latency(figures) for figures in (facts.bundle.latency if facts.bundle else {}, facts.latency)]
    tables = [rows for rows in (_sizes(facts), *speed) if rows]
    if tables:
        yield "## Latency and size"
        yield from (_table(("what", "figure"), rows) for rows in tables)
    if facts.picture is not None or (facts.bundle is not None and facts.bundle.quantization):
        yield "## Quantization"
    if facts.picture is not None:
        yield f"![Quality against latency and size]({facts.picture})"
    if facts.bundle is not None and facts.bundle.quantization:
        yield _json(facts.bundle.quantization)
    if facts.lineage:
        yield "## Where it comes from"
        yield _table(("", ""), [(str(key).replace("_", " "), _text(value)) for key, value in facts.lineage.items()])
    if facts.data_license:
        yield "## Licence of the data"
        yield facts.data_license


def _what(facts: CardFacts) -> str:
    kind = KINDS.get(facts.model_type, f"a {facts.model_type} model")
    forms = ["safetensors for transformers"] if facts.has_student else []
    forms += [f"ONNX ({facts.bundle.precision}, opset {facts.bundle.opset})"] if facts.bundle is not None else []
    return f"{kind[0].upper()}{kind[1:]}, as {' and as '.join(forms)}, made with vlkd-hub {__version__}."


def _code_torch(repo: RepoName, facts: CardFacts) -> str:
    """A picture in, an answer out, without vlkd-hub."""
    at = f'"{repo.repo_id}"' + (f', revision="{repo.revision}"' if repo.revision else "")
    head = "AutoModelForImageTextToText" if facts.model_type == "vlkd" else "AutoModel"
    lines = [
        "from PIL import Image",
        f"from transformers import {head}, AutoProcessor",
        f"processor = AutoProcessor.from_pretrained({at}, trust_remote_code=True)",
        f"model = {head}.from_pretrained({at}, trust_remote_code=True)",
        'photo = Image.open("photo.png").convert("RGB")',
    ]
    if head == "AutoModel":
        lines.append('inputs = processor(images=photo, text=["a circle"], return_tensors="pt")')
        lines.append("print(model(**inputs).logits_per_image)")
    else:
        lines.append('inputs = processor(images=photo, text=processor.build_prompt("caption"), return_tensors="pt")')
        lines.append('tokens = model.generate(**inputs, **processor.generation_kwargs("caption"))')
        lines.append("print(processor.post_process_image_text_to_text(tokens))")
    return "With transformers; it runs the model's own code, which stands in this repository:\n\n" + _python(lines)


def _code_onnx(repo: RepoName, facts: CardFacts) -> str:
    name = f'"{repo}"'
    writes = facts.bundle is not None and facts.bundle.generation is not None
    use = "student.caption([photo])" if writes else "student.embed_images([photo])"
    lines = [
        "from PIL import Image",
        "from vlkd_hub import OnnxStudent",
        f"student = OnnxStudent.from_pretrained({name})",
        'photo = Image.open("photo.png").convert("RGB")',
        f"print({use})",
    ]
    return 'With ONNX, without torch (`pip install "vlkd-hub[serve]"`):\n\n' + _python(lines)


def _row(score: Score) -> tuple[str, ...]:
    value = f"{100 * score.value:.1f} %" if score.metric in SHARES else f"{score.value:.3f}"
    guess = "" if score.chance is None else f"{100 * score.chance:.1f} %"
    return (f"{score.data}, {score.split}", score.name, value, guess)


def _parity(bundle: Manifest) -> str:
    rows = [
        (str(item["graph"]), f"{item['max_abs']:.1e}", f"{1 - item['cosine']:.1e}")
        for item in bundle.parity.get("tensors", [])
        if {"graph", "max_abs", "cosine"} <= item.keys()
    ]
    parts = [_table(("graph", "largest difference", "1 - smallest cosine"), rows)] if rows else []
    reports = [item for some in bundle.parity.get("tokens", {}).values() for item in some]
    if bundle.precision == "fp32" and reports:  # there the export fails on the first token that differs
        beams = " and ".join(str(number) for number in sorted({item["num_beams"] for item in reports}))
        texts = sum(item["texts"] for item in reports)
        parts.append(f"{texts} captions and answers, with {beams} beams, equal token by token.")
    parts.append("`vlkd verify` asks the graphs again and compares with the answers that are stored beside them.")
    return "\n\n".join(parts)


def _sizes(facts: CardFacts) -> list[tuple[str, str]]:
    return [(f"size of the {name}", f"{size / 1e6:.1f} MB") for name, size in facts.sizes.items()]


def _latency(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Milliseconds first, then under what conditions; nothing where nothing was measured."""
    times = {key: value for key, value in figures.items() if key.endswith("_ms") and isinstance(value, int | float)}
    rows = [(f"{key.removesuffix('_ms').replace('_', ' ')}, milliseconds", f"{times[key]:.1f}") for key in times]
    known = [key for key in ("batch_size", "cpu", "threads", "runs", "load_average") if figures.get(key) is not None]
    return [*rows, *((key.replace("_", " "), _text(figures[key])) for key in known if rows)]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _text(value: Any) -> str:
    return " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1, ensure_ascii=False)}\n```"


def _python(lines: list[str]) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"
