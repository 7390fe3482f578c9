from tests.helpers.small_priors import autoregressive, diffusion, network, no_network, prior, tokenizer  # noqa: F401
