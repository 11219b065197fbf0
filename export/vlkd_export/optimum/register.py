"""Tell optimum's ``TasksManager`` and transformers' Auto classes about our models."""

from __future__ import annotations

from typing import Any

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
    _call_them_transformers(TasksManager)


def _call_them_transformers(tasks_manager: Any) -> None:
    """Optimum takes a model for transformers' only if its class lies in a module of that name; ours are of its kind."""
    asked = tasks_manager._infer_library_from_model_or_model_class
    if getattr(asked, "knows_vlkd", False):
        return

    def infer(model: Any = None, model_class: Any = None) -> Any:
        kind = model_class if model is None else type(model)
        if kind is not None and kind.__module__.startswith("vlkd_hub."):
            return "transformers"
        return asked(model=model, model_class=model_class)

    infer.knows_vlkd = True  # type: ignore[attr-defined]
    tasks_manager._infer_library_from_model_or_model_class = staticmethod(infer)
