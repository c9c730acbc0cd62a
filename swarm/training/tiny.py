"""The project's own model: 0.4 million parameters, one character per token, built on this machine in seconds.

Its world is spelling words backward, and everything the swarm does can be done in it: `sun>` asks for `nus`,
`sun=nsu?` for a critique such as `no nus`, `sun=nsu:no nus>` for a revision. It is taught only so far that it
sometimes succeeds, so that GRPO has something to do. The same machine and versions build the same bytes.
"""

import random
import string
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from swarm.training.quiet import quiet

VERSION = 1
"""Part of the cache's file name; raise it when the built model changes."""
STEPS = 130
BATCH = {"answer": 32, "critique": 16, "revise": 16}
LEARNING_RATE = 3e-3
HIDDEN, LAYERS = 96, 3
SEED = 20_240_501

_SPECIAL = ("<pad>", "<eos>", "<unk>")
_CHARACTERS = string.ascii_letters + " \n>=?:.,;!'-"
# Words are drawn letter by letter, in about the frequencies of English.
_LETTERS = "eeeeeeaaaaaaiiiiooooouuurrrrrnnnnttttsssslllldddhhhmmmpppcccgggbbbkkyyffwwvjxqz"


def build(directory: Path, progress: Callable[[str], None]) -> None:
    """Train the model and save it, tokenizer and safetensors, in `directory`; about 10 seconds of one CPU core."""
    progress("Building the tiny model on this machine, 10 to 20 seconds ...")
    tokenizer = make_tokenizer()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # another number of threads adds in another order: other bytes
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model = _train(_make_model(tokenizer), tokenizer)
    finally:
        torch.set_num_threads(threads)
    with quiet():
        model.save_pretrained(directory, safe_serialization=True)
    tokenizer.save_pretrained(directory)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character; unknown characters become `<unk>`."""
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *_CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )


def _make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=3 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    draw = random.Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    model.train()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 20)
        optimizer.zero_grad(set_to_none=True)
        for stage, rows in BATCH.items():  # apart, because their lengths differ
            ids, labels = _batch([_example(stage, draw) for _ in range(rows)], tokenizer)
            loss = model(input_ids=ids, labels=labels).loss * rows / sum(BATCH.values())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _batch(examples: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels, padded on the right, where causal attention never looks; only completions are taught."""
    rows = []
    for prompt, completion in examples:
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append((before, after))
    width = max(len(before) + len(after) for before, after in rows)
    ids = [b + a + [tokenizer.pad_token_id] * (width - len(b) - len(a)) for b, a in rows]
    labels = [[-100] * len(b) + a + [-100] * (width - len(b) - len(a)) for b, a in rows]
    return torch.tensor(ids), torch.tensor(labels)


def _example(stage: str, draw: random.Random) -> tuple[str, str]:
    """(prompt, completion) of a stage."""
    word = _word(draw)
    right = word[::-1]
    answer = right if draw.random() < 0.5 else _wrong(right, draw)
    if stage == "answer":
        return f"{word}>", right
    if stage == "critique":
        return f"{word}={answer}?", "yes" if answer == right else f"no {right}"
    honest = "yes" if answer == right else f"no {right}"
    critiques = [honest if draw.random() < 0.7 else f"no {_wrong(right, draw)}" for _ in range(draw.randint(1, 2))]
    return f"{word}={answer}:{' '.join(critiques)}>", right


def _word(draw: random.Random) -> str:
    word = "".join(draw.choices(_LETTERS, k=draw.choice((3, 3, 4, 4, 5))))
    return word.capitalize() if draw.random() < 0.2 else word


def _wrong(right: str, draw: random.Random) -> str:
    """An answer that is near and not right."""
    letters = list(right)
    draw.shuffle(letters)
    wrong = "".join(letters)
    if wrong != right:
        return wrong
    place = draw.randrange(len(right))
    return (
        right[:place]
        + draw.choice([letter for letter in string.ascii_lowercase if letter != right[place]])
        + right[place + 1 :]
    )
