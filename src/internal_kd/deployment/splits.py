"""A task's token ids, whether or not the scratch that training read is still there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from internal_kd.artefacts import TokenizedTask
from internal_kd.data.tasks_on_disk import read_task
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.data.tokens import TokenSplit, TokenStore
from internal_kd.data.tokens_writing import write_split
from internal_kd.records import is_complete


@contextmanager
def open_split(tokens: TokenizedTask, split: str) -> Iterator[TokenSplit]:
    """Yield a split's tokens: from ``work/tokens``, or made anew from data and encoder for the time of the block.

    Raises:
        UserError: the task or the encoder is not here, or the task has no such split.
    """
    if is_complete(tokens):
        yield TokenStore(tokens.folder).split(split)
        return
    task = read_task(tokens.data)
    encoder = load_tokenizer(tokens.encoder.folder, tokens.encoder.name, tokens.max_length)
    with TemporaryDirectory() as scratch:
        made = write_split(Path(scratch), split, task.path(split), encoder, regression=task.regression)
        yield TokenSplit(Path(scratch), split, encoder.pad_id, made["token_type_ids"])
