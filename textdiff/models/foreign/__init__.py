"""Other people's architectures: published checkpoints as denoisers."""
