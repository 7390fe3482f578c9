"""What people look at: answers in a terminal, and the denoising step by step as HTML."""

from textdiff.display.answer import Answer
from textdiff.display.svg import denoising_svg
from textdiff.display.terminal import show
from textdiff.display.viewer import Denoising, Recorder, Token, denoising_html, fills_html

__all__ = ["Answer", "Denoising", "Recorder", "Token", "denoising_html", "denoising_svg", "fills_html", "show"]
