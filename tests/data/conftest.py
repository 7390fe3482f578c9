from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from tests.helpers.training import stories, write_corpus
from textdiff.text import Vocabulary, train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(stories(40), 300)


@pytest.fixture(scope="session")
def vocabulary(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    return Vocabulary.of(tokenizer)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 stories."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train.txt", stories(40))
