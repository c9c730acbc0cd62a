"""Text to token ids and back. A special token that somebody wrote into a prompt or an answer stays text."""

import secrets
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from swarm.errors import SwarmError
from swarm.training.layout import Tokens


def encode_plain(tokenizer: Any, text: str) -> Tokens:
    """The text as it is, without special tokens around it or in it."""
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def encode_chat(tokenizer: Any, prompt: str, system: str) -> Tokens:
    """The prompt as a user's turn in the model's chat template, ending where the model's turn begins.

    An empty `system` leaves the template's own default, if it has one.

    Raises:
        SwarmError: the model has no chat template.
    """
    if tokenizer.chat_template is None:
        raise SwarmError("this model has no chat template; set prompts.chat: false in the recipe")
    if not _mentions_special(tokenizer, prompt + "\n" + system):
        return tuple(tokenizer(_render(tokenizer, prompt, system), add_special_tokens=False)["input_ids"])
    # The template's own special tokens have to be parsed, those in the texts must not be: tokenize piece by piece.
    texts = {f"x{secrets.token_hex(16)}x": prompt, f"y{secrets.token_hex(16)}y": system}
    places = list(texts)
    rest = _render(tokenizer, places[0], places[1] if system else "")
    ids: list[int] = []
    while rest:
        place = min((mark for mark in places if mark in rest), key=rest.index, default=None)
        before, rest = (rest, "") if place is None else rest.split(place, 1)
        ids += tokenizer(before, add_special_tokens=False)["input_ids"]
        if place is not None:
            ids += encode_plain(tokenizer, texts[place])
    return tuple(ids)


def encode_pair(tokenizer: Any, before: str, after: str) -> tuple[Tokens, Tokens]:
    """Both texts, tokenized as one and parted where `after` begins; a token across the border belongs to `after`."""
    encoded = tokenizer(
        before + after, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
    border = next((index for index, end in enumerate(ends) if end > len(before)), len(ids))
    return tuple(ids[:border]), tuple(ids[border:])


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of the tokens; special tokens, the end token among them, have none."""
    return tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def begins_with(tokenizer: Any) -> Tokens:
    """What this tokenizer itself puts before a plain text: () or (BOS,)."""
    ids = tokenizer("a")["input_ids"]
    return (ids[0],) if ids and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id else ()


def _mentions_special(tokenizer: Any, text: str) -> bool:
    return any(token and token in text for token in tokenizer.all_special_tokens) or any(
        added.content in text for added in tokenizer.added_tokens_decoder.values() if added.special
    )


def _render(tokenizer: Any, prompt: str, system: str) -> str:
    user = {"role": "user", "content": prompt}
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
    if not system:
        return tokenizer.apply_chat_template([user], **options)
    try:
        return tokenizer.apply_chat_template([{"role": "system", "content": system}, user], **options)
    except TemplateError:
        # Some templates (Gemma's) know no system turn.
        return tokenizer.apply_chat_template([{"role": "user", "content": f"{system}\n\n{prompt}"}], **options)
