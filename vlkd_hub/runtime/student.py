"""A distilled student from its ONNX bundle: search vectors, captions and answers without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlkd_hub.bundle import GenerationSpec, Manifest, read_manifest
from vlkd_hub.errors import BundleError, InvalidInputError
from vlkd_hub.hub.folders import bundle_folder
from vlkd_hub.runtime.decoder import CachedDecoder, GreedyDecoder
from vlkd_hub.runtime.generation import generate
from vlkd_hub.runtime.generation_settings import GenerationSettings, unsupported_options
from vlkd_hub.runtime.guarded_session import check_interfaces
from vlkd_hub.runtime.image_processing import ImageProcessor
from vlkd_hub.runtime.matching import Word, WordMatch, match_words
from vlkd_hub.runtime.providers import open_graph, provider_of, resolve_choice
from vlkd_hub.runtime.shared_tables import shared_tables
from vlkd_hub.runtime.text import TextProcessor

__all__ = ["MATCHING_GRAPHS", "OPTIONAL_GRAPHS", "OnnxStudent", "read_generation_config"]

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

GENERATION_CONFIG = "generation_config.json"
MATCHING_GRAPHS = ("image_tokens", "text_tokens")
OPTIONAL_GRAPHS = ("model", "picture_encoder", "greedy_decoder", *MATCHING_GRAPHS)
"""Opened where the bundle has them: scores of pictures against texts, vectors of uint8 pictures, greedy search, words
against patches."""
PROMPTS_KEPT = 64
"""Encoded prompts that are kept: the caption prompt is the same for every picture."""


class OnnxStudent:
    """Embeds, captions and answers from a bundle; the same methods as ``vlkd_hub.inference.TorchStudent``.

    Safe to share between threads: it holds no state of a request.

    Args:
        manifest: of the bundle.
        sessions: name of the graph -> session, see :func:`vlkd_hub.runtime.providers.open_graph`.
        image_processor: pictures to ``pixel_values``.
        text_processor: texts to tokens and back.
        generation_config: ``generation_config.json`` of the bundle.
        batch_size: pictures or texts per run of a graph.
    """

    def __init__(
        self,
        manifest: Manifest,
        sessions: dict[str, Any],
        image_processor: ImageProcessor,
        text_processor: TextProcessor,
        generation_config: dict[str, Any],
        batch_size: int = 32,
    ) -> None:
        self.manifest = manifest
        self.image_processor = image_processor
        self.text_processor = text_processor
        self.batch_size = manifest.fixed_shapes.get("batch", batch_size)
        self.sessions = sessions
        self._generation_config = generation_config
        self._encode_prompt = lru_cache(maxsize=PROMPTS_KEPT)(self._encode_one_prompt)

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        *,
        threads: int | None = None,
        provider: str | Mapping[str, str] | None = None,
        providers: Sequence[Any] | None = None,
        verify: bool = True,
        batch_size: int = 32,
        revision: str | None = None,
        graphs: Collection[str] | None = None,
    ) -> OnnxStudent:
        """Open a bundle.

        Args:
            directory: what ``vlkd export`` wrote, or ``owner/name`` or ``owner/name@revision`` on the Hub.
            threads: threads of one operator; None takes every processor, 8 at most.
            provider: where the graphs run, a name of :data:`vlkd_hub.runtime.providers.PROVIDERS`, graph -> name, or
                ``"measured"``: for each graph what was fastest when the bundle was quantized;
                None means ``"cpu"``. One that is not there is an error.
            providers: onnxruntime's execution providers instead, with options where they are needed.
            verify: compare the SHA-256 of every file with the manifest before anything is opened.
            batch_size: pictures or texts per run of a graph; a bundle of fixed shapes keeps to its own.
            revision: branch, tag or commit on the Hub.
            graphs: open only those of this name, for a process that runs a part of the model; None opens all.

        Raises:
            BundleError: the bundle is incomplete, changed, or of another version.
            HubError: the repository cannot be fetched.
            MissingDependencyError: onnxruntime or a provider is absent.
        """
        directory = bundle_folder(directory, revision)
        manifest = read_manifest(directory, verify=verify)
        provider = resolve_choice(provider, manifest)
        names = ["image_encoder", "text_encoder"]
        generation_config: dict[str, Any] = {}
        if manifest.generation is not None:
            names += ["cross_attention", "decoder"]
            generation_config = read_generation_config(directory, manifest)
        names += [name for name in OPTIONAL_GRAPHS if f"onnx/{name}.onnx" in manifest.files]
        external = {path.removeprefix("onnx/") for path in manifest.files if path.startswith("onnx/")}
        paths = {name: directory / "onnx" / f"{name}.onnx" for name in names if graphs is None or name in graphs}
        tables = shared_tables(
            path for name, path in paths.items() if providers is None and provider_of(provider, name) == "cpu"
        )
        sessions = {
            name: open_graph(
                path,
                provider=None if provider is None else provider_of(provider, name),
                threads=threads,
                providers=providers,
                allowed_external=external,
                shared=tables.get(path),
            )
            for name, path in paths.items()
        }
        check_interfaces(sessions, manifest.generation)
        return cls(
            manifest,
            sessions,
            ImageProcessor.from_pretrained(directory),
            TextProcessor.from_pretrained(directory, length=manifest.fixed_shapes.get("length")),
            generation_config,
            batch_size,
        )

    def embed_images(self, images: Sequence[Image.Image]) -> Floats:
        """Return unit vectors, shape ``(len(images), dim)``.

        Raises:
            InvalidInputError: an item is not a picture.
        """
        rows = [self.encode_image(self.image_processor(images[at]))[0] for at in self._batches(images)]
        return np.concatenate(rows) if rows else np.zeros((0, self.manifest.embedding_dim), np.float32)

    def embed_pixels(self, pixels: NDArray[np.uint8]) -> Floats:
        """Return unit vectors of decoded pictures, ``(batch, H, W, 3)`` RGB -> ``(batch, dim)``; resized in the graph.

        Raises:
            InvalidInputError: the bundle was exported without that graph, or the array is another one.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise InvalidInputError(f"Expected uint8 pixels (batch, H, W, 3), got {pixels.dtype} {pixels.shape}.")
        self._need("picture_encoder", "--preprocessing-in-graph")
        rows = [
            self.sessions["picture_encoder"].run(None, {"pixels": np.ascontiguousarray(pixels[at])})[0]
            for at in self._batches(pixels)
        ]
        return np.concatenate(rows) if rows else np.zeros((0, self.manifest.embedding_dim), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors, shape ``(len(texts), dim)``.

        Raises:
            InvalidInputError: an item is not a text.
        """
        rows = [self.encode_text(*self.text_processor(texts[at]))[0] for at in self._batches(texts)]
        return np.concatenate(rows) if rows else np.zeros((0, self.manifest.embedding_dim), np.float32)

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Floats:
        """Return the score of every picture with every text, cosine over temperature, ``(pictures, texts)``.

        Raises:
            InvalidInputError: the bundle was exported without that graph, or an item is no picture or no text.
        """
        self._need("model", "--monolith")
        rows = []
        for at in self._batches(images):
            pixels = self.image_processor(images[at])
            columns = [self._score(pixels, *self.text_processor(texts[some])) for some in self._batches(texts)]
            rows.append(np.concatenate(columns, axis=1))
        return np.concatenate(rows) if rows else np.zeros((0, len(texts)), np.float32)

    def _score(self, pixel_values: Floats, input_ids: Ints, attention_mask: Ints) -> Floats:
        feeds = {"pixel_values": pixel_values, "input_ids": input_ids, "attention_mask": attention_mask}
        scores: Floats = self.sessions["model"].run(["logits_per_image"], feeds)[0]
        return scores

    @property
    def matches_words(self) -> bool:
        """Whether :meth:`match_words` can be asked."""
        return set(MATCHING_GRAPHS) <= self.sessions.keys()

    def match_words(self, image: Image.Image, text: str) -> WordMatch:
        """Find the words of a text in a picture: see :class:`vlkd_hub.runtime.matching.WordMatch`.

        Raises:
            InvalidInputError: the bundle was exported without these graphs, or an item is no picture or no text.
        """
        self._need("image_tokens", "--match-words")
        pixels = self.image_processor([image])
        input_ids, words = self.text_processor.spell(text)
        return self.match_pixels(pixels, [(input_ids, words)], [self.image_processor.region(image.size)])[0]

    def match_pixels(
        self,
        pixel_values: Floats,
        texts: Sequence[tuple[Sequence[int], Sequence[Word]]],
        regions: Sequence[tuple[float, float, float, float]],
    ) -> list[WordMatch]:
        """Match pictures and texts row by row.

        Args:
            pixel_values: ``(batch, 3, H, W)``.
            texts: tokens and words of each, as :meth:`TextProcessor.spell` gives them.
            regions: what ``pixel_values`` shows of each picture.
        """
        input_ids, mask = self.text_processor.pad([ids for ids, _ in texts])
        feeds = {"input_ids": input_ids, "attention_mask": mask}
        found = []
        for at in self._batches(texts) if self.manifest.fixed_shapes else [slice(None)]:
            patches, *attention = self.sessions["image_tokens"].run(None, {"pixel_values": pixel_values[at]})
            tokens = self.sessions["text_tokens"].run(None, {key: part[at] for key, part in feeds.items()})[0]
            seen = attention[0] if attention else [None] * len(patches)
            rows = zip(texts[at], tokens, patches, seen, regions[at], strict=True)
            found += [match_words(words, *row) for (_, words), *row in rows]
        return found

    def caption(
        self, images: Sequence[Image.Image], *, num_beams: int | None = None, max_new_tokens: int | None = None
    ) -> list[str]:
        """Return one sentence a picture.

        Raises:
            InvalidInputError: an item is not a picture, a number is out of range, or the bundle only embeds.
        """
        settings = self.settings("caption", num_beams=num_beams, max_new_tokens=max_new_tokens)
        return self._write("caption", images, [None] * len(images), settings)

    def answer(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        *,
        num_beams: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Return one answer for each picture and question.

        Raises:
            InvalidInputError: as :meth:`caption`; or the lists differ in length, or a question is empty.
        """
        if len(images) != len(questions):
            raise InvalidInputError(
                f"Give one question a picture: got {len(images)} pictures and {len(questions)} questions."
            )
        settings = self.settings("vqa", num_beams=num_beams, max_new_tokens=max_new_tokens)
        return self._write("vqa", images, questions, settings)

    def settings(self, task: str, **options: Any) -> GenerationSettings:
        """How ``task`` chooses tokens: the bundle's settings, then the task's, then ``options`` that are not None.

        Raises:
            InvalidInputError: the bundle only embeds, the task is unknown, or a value is out of range.
        """
        spec = vars(self._spec())
        return GenerationSettings.merge(self._generation_config, spec, self.text_processor.task(task), options)

    def encode_image(self, pixel_values: Floats) -> tuple[Floats, Floats]:
        """``(batch, 3, H, W)`` -> unit vectors ``(batch, dim)`` and states ``(batch, tokens, width)``.

        A dual encoder has no states: their ``tokens`` and ``width`` are 0.
        """
        rows = self._batches(pixel_values) if self.manifest.fixed_shapes else [slice(None)]
        return _joined([self.sessions["image_encoder"].run(None, {"pixel_values": pixel_values[at]}) for at in rows])

    def encode_text(self, input_ids: Ints, attention_mask: Ints) -> tuple[Floats, Floats]:
        """``(batch, length)`` twice -> unit vectors ``(batch, dim)`` and states ``(batch, length, width)``.

        A dual encoder has no states: their ``length`` and ``width`` are 0.
        """
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        rows = self._batches(input_ids) if self.manifest.fixed_shapes else [slice(None)]
        return _joined(
            [self.sessions["text_encoder"].run(None, {key: part[at] for key, part in feeds.items()}) for at in rows]
        )

    def encode_prompts(self, task: str, questions: Sequence[str | None]) -> tuple[Floats, Ints]:
        """States of the task's prompts, ``(batch, length, width)``, and their mask, ``(batch, length)``.

        Equal prompts (a caption's prompt always is) are encoded once and kept.
        """
        prompts = [self.text_processor.build_prompt(task, question) for question in questions]
        if len(set(prompts)) == 1:
            states, mask = self._encode_prompt(prompts[0])
            return np.repeat(states, len(prompts), axis=0), np.repeat(mask, len(prompts), axis=0)
        input_ids, attention_mask = self.text_processor(prompts)
        return self.encode_text(input_ids, attention_mask)[1], attention_mask

    def generate_from_states(
        self, context: Floats, context_mask: Ints, settings: GenerationSettings
    ) -> list[list[int]]:
        """Write one text a row.

        Args:
            context: image states, prompt states, or both joined along the tokens, ``(batch, tokens, width)``.
            context_mask: 1 where ``context`` is real, ``(batch, tokens)``.
            settings: see :meth:`settings`.

        Returns:
            The tokens of each row, without the start token, with the end token where it came.
        """
        sessions = self.sessions
        spec = self._spec()
        states = sessions["cross_attention"], sessions["decoder"], spec, context, context_mask
        searches = settings.num_beams > 1 or settings.do_sample or settings.no_repeat_ngram_size
        greedy = None if searches else sessions.get("greedy_decoder")
        decoder = CachedDecoder(*states) if greedy is None else GreedyDecoder(greedy, *states)
        return generate(decoder, context.shape[0], settings)

    def write_tokens(
        self, task: str, images: Sequence[Image.Image], questions: Sequence[str | None], settings: GenerationSettings
    ) -> list[list[int]]:
        """Tokens for pictures and questions (None for a task that asks nothing), in batches."""
        tokens: list[list[int]] = []
        for at in self._batches(images):
            visual = self._visual_states(images[at])
            prompts, mask = self.encode_prompts(task, questions[at])
            seen = np.ones(visual.shape[:2], dtype=np.int64)
            context = np.concatenate([visual, prompts], axis=1)
            tokens += self.generate_from_states(context, np.concatenate([seen, mask], axis=1), settings)
        return tokens

    def _write(
        self, task: str, images: Sequence[Image.Image], questions: Sequence[str | None], settings: GenerationSettings
    ) -> list[str]:
        return self.text_processor.decode(self.write_tokens(task, images, questions, settings))

    def _visual_states(self, images: Sequence[Image.Image]) -> Floats:
        """One encoding a picture; the same object given several times in a batch is encoded once."""
        unique = {id(image): image for image in images}
        _, states = self.encode_image(self.image_processor(list(unique.values())))
        position = {key: row for row, key in enumerate(unique)}
        return states if len(unique) == len(images) else states[[position[id(image)] for image in images]]

    def _encode_one_prompt(self, prompt: str) -> tuple[Floats, Ints]:
        input_ids, attention_mask = self.text_processor([prompt])
        return self.encode_text(input_ids, attention_mask)[1], attention_mask

    def _spec(self) -> GenerationSpec:
        if self.manifest.generation is None:
            raise InvalidInputError("This bundle only embeds: it was exported without a decoder, so it cannot write.")
        return self.manifest.generation

    def _need(self, graph: str, flag: str) -> None:
        if graph not in self.sessions:
            raise InvalidInputError(f"This bundle has no graph {graph!r}. Export the student again with {flag}.")

    def _batches(self, items: Sized) -> list[slice]:
        return [slice(start, start + self.batch_size) for start in range(0, len(items), self.batch_size)]


def _joined(runs: list[list[Floats]]) -> tuple[Floats, Floats]:
    """Vectors and states of several runs of an encoder, one after the other."""
    parts = [np.concatenate(part) if len(part) > 1 else part[0] for part in zip(*runs, strict=True)]
    return parts[0], parts[1] if len(parts) > 1 else np.zeros((len(parts[0]), 0, 0), np.float32)


def read_generation_config(directory: Path, manifest: Manifest) -> dict[str, Any]:
    """``generation_config.json`` of a bundle; empty where it has none.

    Raises:
        BundleError: it is malformed, or sets what the runtime does not do.
    """
    if GENERATION_CONFIG not in manifest.files:
        return {}
    try:
        config = json.loads((directory / GENERATION_CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{GENERATION_CONFIG} is not valid JSON ({error}). Export the student again.") from error
    if not isinstance(config, dict):
        raise BundleError(f"{GENERATION_CONFIG} does not hold an object. Export the student again.")
    if refused := unsupported_options(config):
        raise BundleError(f"{GENERATION_CONFIG} sets {', '.join(refused)}, which this runtime does not do.")
    return config
