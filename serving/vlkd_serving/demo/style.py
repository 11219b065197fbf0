"""How the page looks: local fonts only, readable on a phone, light and dark."""

from __future__ import annotations

from typing import Any

from vlkd_hub._optional import require

__all__ = ["CSS", "HEADER", "make_theme"]

HEADER = """
<div class="vlkd-header">
  <h1>vlkd <span>a small vision-language model, distilled</span></h1>
  <p>Find pictures by describing them, have a picture described, or ask about it.
     It answers in milliseconds, on an ordinary processor.</p>
</div>
"""

CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.vlkd-header { padding: 1.1rem 0 0.3rem; }
.vlkd-header h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.02em; font-weight: 600; }
.vlkd-header h1 span { font-size: 1.05rem; font-weight: 400; letter-spacing: 0; margin-left: 0.5rem;
  color: var(--body-text-color-subdued); }
.vlkd-header p { margin: 0.45rem 0 0; color: var(--body-text-color-subdued); max-width: 46rem; }
.vlkd-status { min-height: 1.5rem; color: var(--body-text-color-subdued); font-size: 0.95rem; }
.vlkd-status b { color: var(--primary-600); font-weight: 600; }
.dark .vlkd-status b { color: var(--primary-300); }
.vlkd-answer textarea { font-size: 1.35rem !important; line-height: 1.45 !important; }
.vlkd-flat .html-container { padding: 0 2px; }
.vlkd-gallery { background: none !important; border: none !important; }
.vlkd-gallery .grid-wrap { padding: 0; max-height: none; overflow: visible; }
.vlkd-gallery .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); grid-auto-rows: auto;
  gap: 14px; }
.vlkd-gallery .gallery-item { height: 100%; }
.vlkd-gallery .thumbnail-lg { display: flex; flex-direction: column; height: 100%; aspect-ratio: auto;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
.vlkd-gallery .thumbnail-lg img { width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; }
.vlkd-gallery .caption-label { position: static; width: 100%; max-width: none; margin: 0; padding: 8px 10px;
  background: none; border: none; box-shadow: none; text-align: left; white-space: normal; font-size: 0.85rem; }
.vlkd-words label { position: relative; padding: 6px 14px !important; border-radius: 999px !important; }
.vlkd-words label input { position: absolute; opacity: 0; width: 100%; height: 100%; inset: 0; margin: 0;
  cursor: pointer; }
.vlkd-words label span { margin: 0 !important; }
.vlkd-words label.selected { background: var(--primary-600) !important; color: white !important; }
.vlkd-words label.selected span { color: white !important; }
.vlkd-words label:has(input:focus-visible) { outline: 2px solid var(--primary-400); outline-offset: 2px; }
@media (max-width: 640px) {
  .vlkd-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 10px; }
  .vlkd-header h1 { font-size: 1.5rem; }
  .vlkd-header h1 span { display: block; margin: 0.2rem 0 0; }
}
"""


def make_theme() -> Any:
    """The Gradio theme."""
    themes = require("gradio", "demo").themes
    # Gradio ships this font's semi-bold with a quarter of its letters; the bold is whole.
    fonts = (themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif")
    theme = themes.Default(primary_hue="teal", secondary_hue="teal", neutral_hue="slate", text_size="lg", font=fonts)
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_border_width="1px",
        block_shadow="none",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
    )
