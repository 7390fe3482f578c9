from tests.diffusion.conftest import schedule  # noqa: F401
