"""The clients that people use, against a real socket: each reads our answers as its own server's."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

GREEN = [3.9e-06, 1.0, 3.9e-06]


@pytest.fixture
def address(live_server: Callable[..., str]) -> str:
    """A server of two names for the fake student."""
    return live_server(models=("fake", "other"))


@pytest.fixture
def green(tmp_path: Path, picture_bytes: Callable[..., bytes]) -> Path:
    """A file with a green picture."""
    path = tmp_path / "green.png"
    path.write_bytes(picture_bytes("green"))
    return path


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """``hugging_face(url)``: the client; allowed to reach this machine although the tests are offline."""
    from huggingface_hub import InferenceClient, constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    yield lambda url: InferenceClient(model=url, token="none")
    close_session()


def test_huggingface_hub(hugging_face: Callable[[str], Any], address: str, green: Path) -> None:
    """All five tasks, a route each."""
    client = {task: hugging_face(f"{address}/hf/{task}") for task in TASKS}
    assert client["image-to-text"].image_to_text(str(green)).generated_text == "a green picture"
    sent_bare = client["image-to-text"].image_to_text(green.read_bytes())  # without a content type
    assert sent_bare.generated_text == "a green picture"
    asked = client["visual-question-answering"].visual_question_answering(str(green), "what color?")
    assert (asked[0].answer, asked[0].score) == ("green", 0.5)
    chosen = client["zero-shot-image-classification"].zero_shot_image_classification(
        str(green), candidate_labels=["red", "green"], hypothesis_template="a {} thing"
    )
    assert [each.label for each in chosen] == ["green", "red"] and sum(e.score for e in chosen) == pytest.approx(1)
    vector = client["feature-extraction"].feature_extraction("green", normalize=True, truncate=True)
    assert vector.shape == (3,) and vector.dtype == np.float32
    similar = client["sentence-similarity"].sentence_similarity("red", other_sentences=["red", "blue"])
    assert similar[0] == pytest.approx(1, abs=1e-5) and similar[1] < 0.1


TASKS = (
    "image-to-text",
    "visual-question-answering",
    "zero-shot-image-classification",
    "feature-extraction",
    "sentence-similarity",
)


def test_huggingface_hub_chat(hugging_face: Callable[[str], Any], address: str, green: Path) -> None:
    """Its chat client appends /v1/chat/completions to the address."""
    content = [{"type": "image_url", "image_url": {"url": data_url(green)}}]
    reply = hugging_face(address).chat_completion([{"role": "user", "content": content}], model=None, max_tokens=30)
    assert reply.choices[0].message.content == "a green picture"


@pytest.fixture
def openai(address: str) -> Iterator[Any]:
    """OpenAI's own client."""
    from openai import OpenAI

    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_embeddings(openai: Any, green: Path) -> None:
    """The client asks for base64 by itself; floats are the same numbers, and usage counts tokens."""
    inputs = ["red", data_url(green)]
    coded = openai.embeddings.create(model="fake", input=inputs)
    plain = openai.embeddings.create(model="other", input=inputs, encoding_format="float", dimensions=3)
    np.testing.assert_allclose([e.embedding for e in coded.data], [e.embedding for e in plain.data], atol=1e-7)
    np.testing.assert_allclose(coded.data[1].embedding, GREEN, atol=1e-6)
    assert (coded.model, plain.model, coded.usage.prompt_tokens) == ("fake", "other", 1)


def test_openai_chat(openai: Any, green: Path) -> None:
    """A question, a caption, and a stream of pieces that add up to it."""
    picture = {"type": "image_url", "image_url": {"url": data_url(green)}}
    question = {"role": "user", "content": [{"type": "text", "text": "what color?"}, picture]}
    answer = openai.chat.completions.create(model="fake", messages=[question])
    assert answer.choices[0].message.content == "green" and answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens == 3
    describe = [{"role": "user", "content": [{"type": "text", "text": "Describe this image."}, picture]}]
    cut = openai.chat.completions.create(model="fake", messages=describe, max_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("a green", "length")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(openai.chat.completions.create(model="fake", messages=describe, **options))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) == 3 and "".join(pieces) == "a green picture"
    assert chunks[-1].usage.completion_tokens == 3


def test_openai_models_and_errors(openai: Any, green: Path) -> None:
    """Names in order; our errors become the client's exceptions, with our words."""
    from openai import NotFoundError, UnprocessableEntityError

    assert [model.id for model in openai.models.list()] == ["fake", "other"]
    assert openai.models.retrieve("other").id == "other"
    with pytest.raises(NotFoundError, match="known are: fake, other"):
        openai.embeddings.create(model="text-embedding-3-small", input="red")
    with pytest.raises(UnprocessableEntityError, match="must hold a picture"):
        openai.chat.completions.create(model="fake", messages=[{"role": "user", "content": "hello"}])
    bad = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
    with pytest.raises(UnprocessableEntityError, match="not a picture"):  # before the stream has begun
        openai.chat.completions.create(model="fake", messages=bad, stream=True)


def test_curl(address: str, green: Path) -> None:
    """The plainest client."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def curl(*args: str) -> Any:
        done = subprocess.run(["curl", "-sS", *args], capture_output=True, text=True, timeout=20, check=True)
        return json.loads(done.stdout)

    assert curl(f"{address}/v1/caption", "-F", f"image=@{green}")["caption"] == "a green picture"
    assert curl(f"{address}/hf/image-to-text", "--data-binary", f"@{green}", "-H", "Content-Type: image/png") == [
        {"generated_text": "a green picture"}
    ]
    body = json.dumps({"text": "green", "k": 1})
    found = curl(f"{address}/v1/search", "-H", "Content-Type: application/json", "-d", body)
    assert found["results"][0]["id"] == "green.jpg"


def test_every_dialect_gives_the_same_numbers(address: str, green: Path) -> None:
    """One text and one picture, through each route that embeds; one caption and answer, through each that writes."""
    client = httpx.Client(base_url=address, timeout=20)
    picture, url = green.read_bytes(), data_url(green)
    encoded = base64.b64encode(picture).decode()

    def post(path: str, **body: Any) -> Any:
        answer = client.post(path, **body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def infer(*inputs: tuple[str, str], output: str) -> Any:
        tensors = [{"name": n, "shape": [1], "datatype": "BYTES", "data": [v]} for n, v in inputs]
        return post("/v2/models/fake/infer", json={"inputs": tensors, "outputs": [{"name": output}]})["outputs"][0]

    def predict(kind: str, **parts: Any) -> Any:
        entries = (None, json.dumps({"clip": {kind: {"modelName": "ViT-B-32__openai"}}}))
        return json.loads(post("/predict", files={"entries": entries, **parts})["clip"])

    for name, value, visual in (("text", "a red thing", False), ("image", url, True)):
        parts = {"image": ("p.png", picture)} if visual else {"text": (None, value)}
        vectors = [
            post("/v1/embeddings", json={"input": value})["data"][0]["embedding"],
            post("/hf/feature-extraction", json={"inputs": value}),
            post("/embed", json={"inputs": value})[0],
            infer((name, value), output="embedding")["data"],
            predict("visual" if visual else "textual", **parts),
        ]
        if visual:
            body = {"content": picture, "headers": {"content-type": "image/png"}}
            vectors.append(post("/v1/embeddings", **body)["data"][0]["embedding"])
        for vector in vectors:
            np.testing.assert_allclose(vector, vectors[0], atol=1e-6)
        if not visual:
            pair = {"source_sentence": value, "sentences": [value, "blue"]}
            other = post("/embed", json={"inputs": "blue"})[0]
            similarities = post("/hf/sentence-similarity", json={"inputs": pair})
            np.testing.assert_allclose(similarities, np.stack([vectors[0], other]) @ vectors[0], atol=1e-6)
    chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    captions = {
        post("/v1/caption", json={"image": encoded})["caption"],
        post("/v1/chat/completions", json={"messages": chat})["choices"][0]["message"]["content"],
        post("/hf/image-to-text", json={"inputs": encoded})[0]["generated_text"],
        post("/v1/caption", content=picture, headers={"content-type": "image/png"})["caption"],
        infer(("image", encoded), output="caption")["data"][0],
    }
    assert captions == {"a green picture"}
    question = "what color?"
    chat[0]["content"].append({"type": "text", "text": question})  # type: ignore[attr-defined]
    answers = {
        post("/v1/vqa", json={"image": encoded, "question": question})["answer"],
        post("/v1/chat/completions", json={"messages": chat})["choices"][0]["message"]["content"],
        post("/hf/visual-question-answering", json={"inputs": encoded, "question": question})[0]["answer"],
        infer(("image", encoded), ("question", question), output="answer")["data"][0],
    }
    assert answers == {"green"}
    labels = {"candidate_labels": ["red", "green"]}
    native = post("/v1/classify", json={"image": encoded, "labels": ["red", "green"]})["labels"]
    hugging = post("/hf/zero-shot-image-classification", json={"inputs": encoded, "parameters": labels})
    assert [(e["label"], e["score"]) for e in native] == [(e["label"], e["score"]) for e in hugging]
    client.close()
