"""The figure of the README: one fill of the shipped model, step by step. Run it from the root of the repository."""

from pathlib import Path

import textdiff as td
from textdiff.display import Denoising, denoising_svg

TEXT = "Lily lost her red ball. [gap:8-14] She was happy again."

if __name__ == "__main__":
    denoising = Denoising.of(td.load("stories"), TEXT, seed=0, steps=6, temperature=0.6)
    Path(__file__).with_name("denoising.svg").write_text(denoising_svg(denoising), encoding="utf-8")
