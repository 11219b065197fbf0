"""Tell optimum's ``TasksManager`` and transformers' Auto classes about our models."""

from __future__ import annotations

from vlkd_hub._optional import require

__all__ = ["MODEL_TYPES", "register"]

MODEL_TYPES = {
    "vlkd": ("zero-shot-image-classification", "feature-extraction"),
    "vlkd_dual_encoder": ("zero-shot-image-classification",),
}
"""Model type -> optimum's tasks. Captions and answers are not among them: see docs/export.md."""


def register() -> None:
    """Make ``optimum-cli export onnx`` and ``ORTModel*`` know the model types; calling it twice does no harm.

    Raises:
        MissingDependencyError: optimum's exporter is not installed here.
    """
    require("optimum.exporters.onnx", "optimum")
    from optimum.exporters.tasks import TasksManager

    import vlkd_hub.models  # noqa: F401  (its import tells the Auto classes)
    from vlkd_export.optimum.configs import DualEncoderOnnxConfig, VlkdImageOnnxConfig, VlkdOnnxConfig

    add = TasksManager.create_register("onnx")
    add("vlkd_dual_encoder", *MODEL_TYPES["vlkd_dual_encoder"])(DualEncoderOnnxConfig)
    add("vlkd", "zero-shot-image-classification")(VlkdOnnxConfig)
    add("vlkd", "feature-extraction")(VlkdImageOnnxConfig)
