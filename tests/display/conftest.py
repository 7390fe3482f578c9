from tests.helpers.tiny_priors import autoregressive, diffusion, prior  # noqa: F401
