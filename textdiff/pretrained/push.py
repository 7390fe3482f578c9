"""Uploading a prior to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import TemporaryDirectory

from textdiff.errors import UserError, reason
from textdiff.pretrained.network_prior import NetworkPrior
from textdiff.pretrained.save import save


def push_to_hub(
    prior: NetworkPrior, name: str, *, private: bool = False, figures: Mapping[str, str] | None = None
) -> str:
    """Upload a prior to the Hugging Face Hub, from where `load(name)` reads it; returns its address.

    Args:
        prior: with a network.
        name: `owner/name`; created if it does not exist.
        private: whether a repository that is created is private.
        figures: measured values for the model card, by what was measured.

    Raises:
        UserError: the prior has no weights, or the Hub refuses them.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    with TemporaryDirectory() as folder:
        save(prior, folder, name=name, figures=figures)
        try:
            hub.create_repo(name, private=private, exist_ok=True)
            return str(hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by textdiff"))
        except Exception as error:  # of the Hub, of the connection, of what one may do there
            why = reason(error).rstrip(". ")
            raise UserError(
                f"the Hub does not take {name!r} ({why}): check the name, and that you are logged in there"
            ) from error
