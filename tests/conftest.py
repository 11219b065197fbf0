"""What every test gets: no network, two torch threads in all, and the real data where it lies beside the repository."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# Before anything imports huggingface_hub or a numerical library.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

ROOT = Path(__file__).resolve().parent.parent
TORCH_THREADS = max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Hold torch to its threads, in whichever test imports it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != TORCH_THREADS:
        torch.set_num_threads(TORCH_THREADS)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and words; it is not part of the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not (folder / "README.md").is_file():
        pytest.skip("the real data is not here: expected ../shared/data beside the repository")
    return folder


@pytest.fixture(scope="session")
def fakes() -> ModuleType:
    """``tests/fake_tensorrt.py``: stand-ins for TensorRT and CUDA, which check the order of calls and nothing else."""
    spec = importlib.util.spec_from_file_location("fake_tensorrt", ROOT / "tests" / "fake_tensorrt.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fake_gpu(fakes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``fake_gpu("11.4.0")``: from then on TensorRT of that version and a GPU seem to be here."""

    def install(version: str = "10.15.1", **options: Any) -> Any:
        cuda = fakes.FakeCuda(**options)
        tensorrt = fakes.FakeTensorrt(version, cuda)
        monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
        monkeypatch.setattr("vlkd_hub.runtime.tensorrt.cuda._runtime", lambda: cuda)
        return tensorrt

    return install


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of an installed chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on the PATH; install it with: apt-get install chromium")


@pytest.fixture
def seeded() -> None:
    """Seed Python, numpy and torch."""
    import random

    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved VLKD student with random weights: everything a real one has, in a second."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BartConfig, BertConfig, CLIPImageProcessorPil, PreTrainedTokenizerFast

    from vlkd_hub.models.vlkd import VisionTowerConfig, VlkdConfig, VlkdForConditionalGeneration, VlkdProcessor

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = (
        "a of picture the answer what color is shape how many are there red blue circle square one two . ? :".split()
    )
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    names = {f"{word.strip('[]').lower()}_token": word for word in special}
    size = len(vocabulary)
    torch.manual_seed(0)
    vision = VisionTowerConfig(
        backbone_type="hf",
        backbone_config={
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
        pool="cls",
        image_size=32,
        projection_dim=8,
    )
    narrow = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = VlkdConfig(
        vision_config=vision,
        text_encoder=BertConfig(vocab_size=size, **narrow),
        decoder=BartConfig(
            vocab_size=size,
            d_model=16,
            decoder_layers=2,
            decoder_attention_heads=2,
            decoder_ffn_dim=32,
            pad_token_id=0,
            bos_token_id=2,
            eos_token_id=3,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
        ),
        projection_dim=8,
        image_features="all_tokens",
    )
    picture_size = {"height": 32, "width": 32}
    processor = VlkdProcessor(
        CLIPImageProcessorPil(size=picture_size, crop_size=picture_size),
        PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names),
    )
    folder = tmp_path_factory.mktemp("tiny") / "student"
    VlkdForConditionalGeneration(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the bundle of ``tiny_student``, exported as `vlkd export` does."""
    from vlkd_export.onnx.export import export_bundle
    from vlkd_export.settings import ExportSettings

    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export_bundle(tiny_student, folder, ExportSettings())
    return folder


@pytest.fixture(scope="session")
def make_smke_student() -> Callable[..., Path]:
    """``make_smke_student(folder, shared="mlp")``: a saved S-SMKE student with random weights and its processor.

    ``backbone`` is ``vit`` or ``cnn``; the tokenizer cuts "circles" into two pieces, and knows no "zebra".
    """

    def make(folder: Path, backbone: str = "vit", image: dict[str, Any] | None = None, **changes: Any) -> Path:
        import torch
        from transformers import BertConfig, BertTokenizerFast, CLIPImageProcessorPil

        from vlkd_hub.models.smke import SmkeConfig, SmkeImageConfig, SmkeModel, SmkeProcessor

        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        words = "a the red blue green small circle square ##s dog dogs on of two , . ?".split()
        narrow = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        kinds: dict[str, dict[str, Any]] = {
            "vit": {
                "backbone_type": "hf",
                "backbone_name": None,
                "backbone_config": {"model_type": "vit", **narrow, "image_size": 32, "patch_size": 8},
            },
            "cnn": {"backbone_name": "test_efficientnet", "grid_size": 3},
        }
        torch.manual_seed(0)
        config = SmkeConfig(
            image_config=SmkeImageConfig(**(kinds[backbone] | {"hidden_size": 16, "image_size": 32} | (image or {}))),
            text_config=BertConfig(vocab_size=len(special) + len(words), max_position_embeddings=64, **narrow),
            **({"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_size": 10} | changes),
        )
        model = SmkeModel(config).eval()
        with torch.no_grad():  # at 0.02 every answer would be next to every other
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1 and "logit_scale" not in name:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        vocabulary = {word: number for number, word in enumerate([*special, *words])}
        size = {"height": 32, "width": 32}
        processor = SmkeProcessor(
            CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=size),
            BertTokenizerFast(vocab=vocabulary, model_max_length=32),
        )
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def smke_student(make_smke_student: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one with a vision Transformer and a shared block: 4 x 4 patches."""
    return make_smke_student(tmp_path_factory.mktemp("smke") / "student")


@pytest.fixture(scope="session")
def smke_bundle(smke_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bundle, with the graphs that match words with patches."""
    from vlkd_export.onnx.export import export_bundle
    from vlkd_export.settings import ExportSettings

    folder = tmp_path_factory.mktemp("smke") / "bundle"
    export_bundle(smke_student, folder, ExportSettings(match_words=True))
    return folder
