"""One trainer on one workload, alone in its process: `python -m bench.arms WORKLOAD ARM MODEL_DIR --out FILE`.

ours: this project's `Learner`. trl: TRL's `GRPOTrainer` as its documentation sets it up. anchor: GenRL's way, one
`generate` call per completion, fp32, the logits of whole rows. ours-vllm and trl-vllm sample with vLLM on the same GPU,
which sleeps meanwhile. All see the same prompts in the same order, with the same group size, lengths, LoRA and rate.
"""

import argparse
import json
import random
import string
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from bench.machine import end_with_parent
from swarm.judging.scores import advantages
from swarm.recipe import catalogue
from swarm.recipe.prompts import answer_prompt
from swarm.recipe.schema import Grpo, Lora, Model, StageSettings
from swarm.recipe.tasks import derive_tasks
from swarm.recipe.verifiers import verify
from swarm.training import memory
from swarm.training.learner import Learner, TrainingGroup

Reward = Callable[[int, str], float]
"""Of a completion's text, given the number of its prompt."""


@dataclass(frozen=True)
class Workload:
    """What is trained on; a real model gets the sums of the arithmetic recipe, a random one text of a fixed length."""

    real: bool
    prompts_per_step: int
    samples: int
    max_new_tokens: int
    lora: bool
    dtype: str
    optimizer: str
    learning_rate: float
    limit_gb: float | None = None
    """Memory of the GPU that is pretended (ours only; TRL would not fit and cannot make itself smaller)."""


WORKLOADS = {
    "smollm2": Workload(True, 4, 8, 12, True, "float32", "adamw", 5e-4),
    "smollm2-long": Workload(True, 8, 8, 128, True, "float32", "adamw", 5e-4),
    "qwen-lora": Workload(False, 2, 8, 512, True, "float32", "adamw", 5e-4),
    "qwen-lora-8gb": Workload(False, 2, 8, 512, True, "float32", "adamw", 5e-4, 8),
    "qwen-full-12gb": Workload(False, 2, 8, 512, False, "bfloat16", "adamw_8bit", 1e-5, 12),
    "tiny": Workload(False, 2, 8, 8, False, "float32", "adamw", 3e-4),
}
LORA_RANK, LORA_ALPHA = 16, 32
PROMPT_CHARACTERS = 100
PROMPT_ROOM = 512
"""Tokens of a prompt that vLLM has room for."""


class Meter:
    """Seconds, processor seconds, completion tokens and mean reward of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._tokens = 0
        self._rewards: list[float] = []
        self.restart()

    def restart(self) -> None:
        _synchronize()
        self._started, self._processor = time.perf_counter(), time.process_time()

    def count(self, tokens: int, rewards: Sequence[float]) -> None:
        self._tokens += tokens
        self._rewards += rewards

    def step(self) -> None:
        _synchronize()
        self.steps.append(
            {
                "seconds": time.perf_counter() - self._started,
                "cpu_seconds": time.process_time() - self._processor,
                "tokens": self._tokens,
                "reward": sum(self._rewards) / max(1, len(self._rewards)),
            }
        )
        self._tokens, self._rewards = 0, []
        self.restart()


def questions(workload: Workload, seed: int, count: int) -> tuple[list[str], Reward]:
    """Prompts for `count` steps' worth, and their reward."""
    if not workload.real:
        draw = random.Random(seed)
        texts = ["".join(draw.choices(string.ascii_lowercase, k=PROMPT_CHARACTERS)) for _ in range(count)]
        return texts, lambda _, text: float(len(set(text)) % 2)
    recipe = catalogue.find("arithmetic")
    tasks = derive_tasks(recipe, seed.to_bytes(8, "big"), count)
    return [answer_prompt(recipe, task) for task in tasks], lambda index, text: verify(recipe, tasks[index], text)


def settings_of(workload: Workload) -> tuple[Model, Grpo]:
    """What a recipe of our own would say of the model and its training."""
    model = Model(
        id="bench",
        lora=Lora(rank=LORA_RANK, alpha=LORA_ALPHA) if workload.lora else None,
        dtype=workload.dtype,  # type: ignore[arg-type]
    )
    grpo = Grpo(learning_rate=workload.learning_rate, optimizer=workload.optimizer)  # type: ignore[arg-type]
    return model, grpo


def ours(
    workload: Workload,
    directory: Path,
    device: str,
    steps: int,
    seed: int,
    meter: Meter,
    sampler: Literal["local", "vllm"] = "local",
) -> dict[str, Any]:
    settings, grpo = settings_of(workload)
    if workload.limit_gb is not None and device.startswith("cuda"):
        memory.limit(torch.device(device, torch.cuda.current_device()), int(workload.limit_gb * 2**30))
    learner = Learner.load(
        directory, settings, grpo, seed=seed, device=device, threads=torch.get_num_threads(), sampler=sampler
    )
    texts, reward = questions(workload, seed, steps * workload.prompts_per_step)
    stage = StageSettings(samples=workload.samples, max_new_tokens=workload.max_new_tokens)
    prompts = [learner.encode(text, chat=workload.real, system="") for text in texts]
    sampling = updating = 0.0
    meter.restart()
    for step in range(steps):
        numbers = range(step * workload.prompts_per_step, (step + 1) * workload.prompts_per_step)
        began = time.perf_counter()
        drawn = learner.generate([prompts[number] for number in numbers], stage, seed=seed * 1000 + step)
        sampling += time.perf_counter() - began
        groups = []
        for number, row in zip(numbers, drawn, strict=True):
            rewards = [reward(number, one.text) for one in row]
            meter.count(sum(len(one.tokens) for one in row), rewards)
            completions = tuple((one.tokens, one.logprobs) for one in row)
            scaled = tuple(advantages(rewards, scale=True))
            groups.append(TrainingGroup(prompts[number], completions, scaled, own=True, temperature=1.0))
        report = learner.update(groups)
        updating += report.seconds
        if report.skipped is not None:
            print(report.skipped, file=sys.stderr)
        meter.step()
    return {"sampling_seconds": sampling, "update_seconds": updating, "drift": report.mean_ratio_drift}


def trl(
    workload: Workload, directory: Path, device: str, steps: int, seed: int, meter: Meter, vllm: bool = False
) -> dict[str, Any]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    texts, reward = questions(workload, seed, steps * workload.prompts_per_step)
    prompts = [[{"role": "user", "content": text}] if workload.real else text for text in texts]

    def score(completions: list[Any], completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        said = [one if isinstance(one, str) else one[0]["content"] for one in completions]
        rewards = [reward(index, text) for index, text in zip(number, said, strict=True)]
        meter.count(sum(map(len, completion_ids)), rewards)
        return rewards

    class EveryStep(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step()

    with tempfile.TemporaryDirectory() as unused:
        trainer = GRPOTrainer(
            model=str(directory),
            reward_funcs=score,
            args=GRPOConfig(
                output_dir=unused,
                max_steps=steps,
                num_generations=workload.samples,
                max_completion_length=workload.max_new_tokens,
                gradient_accumulation_steps=workload.prompts_per_step,  # of 8 rows each, TRL's default
                learning_rate=workload.learning_rate,
                lr_scheduler_type="constant",
                shuffle_dataset=False,
                use_cpu=device == "cpu",
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                seed=seed,
                use_vllm=vllm,
                vllm_mode="colocate",
                vllm_enable_sleep_mode=vllm,
                vllm_max_model_length=PROMPT_ROOM + workload.max_new_tokens,
            ),
            train_dataset=Dataset.from_dict({"prompt": prompts, "number": list(range(len(prompts)))}),
            peft_config=LoraConfig(
                r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            )
            if workload.lora
            else None,
            callbacks=[EveryStep()],
        )
        meter.restart()
        trainer.train()
    return {}


def anchor(workload: Workload, directory: Path, device: str, steps: int, seed: int, meter: Meter) -> dict[str, Any]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    if workload.lora:
        model = get_peft_model(
            model, LoraConfig(r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    model.to(device)
    torch.manual_seed(seed)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=workload.learning_rate, weight_decay=0.0)
    texts, reward = questions(workload, seed, steps * workload.prompts_per_step)
    meter.restart()
    for step in range(steps):
        optimizer.zero_grad()
        for number in range(step * workload.prompts_per_step, (step + 1) * workload.prompts_per_step):
            if workload.real:
                turn = [{"role": "user", "content": texts[number]}]
                text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            else:
                text = texts[number]
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(device)
            rows = []
            model.eval()
            for _ in range(workload.samples):
                whole = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    temperature=1.0,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=workload.max_new_tokens,
                    pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
                )
                rows.append(whole[0, ids.shape[1] :])
            rewards = [reward(number, tokenizer.decode(row, skip_special_tokens=True)) for row in rows]
            meter.count(sum(map(len, rows)), rewards)
            model.train()
            _backward(model, ids, rows, advantages(rewards, scale=True), workload.prompts_per_step)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        meter.step()
    return {}


def _backward(
    model: Any, ids: torch.Tensor, rows: Sequence[torch.Tensor], weights: Sequence[float], parts: int
) -> None:
    width = max(map(len, rows))
    tokens = torch.zeros(len(rows), ids.shape[1] + width, dtype=torch.long, device=ids.device)
    mask = torch.zeros_like(tokens)
    for index, row in enumerate(rows):
        end = ids.shape[1] + len(row)
        tokens[index, :end] = torch.cat([ids[0], row])
        mask[index, :end] = 1
    logits = model(input_ids=tokens, attention_mask=mask).logits
    logprobs = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, tokens[:, 1:, None]).squeeze(2)
    counted = mask[:, 1:].clone()
    counted[:, : ids.shape[1] - 1] = 0
    ratio = (logprobs - logprobs.detach()).exp()
    gain = torch.tensor(weights, device=ids.device)[:, None]
    (-(ratio * gain * counted).sum() / counted.sum() / parts).backward()


def random_qwen(directory: Path) -> None:
    """Qwen2.5-0.5B's shape with random weights, and a tokenizer of characters."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from swarm.training.tiny import make_tokenizer

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151_936,
            hidden_size=896,
            intermediate_size=4864,
            num_hidden_layers=24,
            num_attention_heads=14,
            num_key_value_heads=2,
            max_position_embeddings=32_768,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


ARMS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    "ours-vllm": partial(ours, sampler="vllm"),
    "trl": trl,
    "trl-vllm": partial(trl, vllm=True),
    "anchor": anchor,
}


def main() -> int:
    p = argparse.ArgumentParser(prog="python -m bench.arms", description=__doc__)
    p.add_argument("workload", choices=WORKLOADS)
    p.add_argument("arm", choices=ARMS)
    p.add_argument("directory", type=Path)
    p.add_argument("--device", default="cpu")
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", type=Path, required=True)
    options = p.parse_args()
    end_with_parent()
    torch.set_num_threads(options.threads)
    meter = Meter()
    more = ARMS[options.arm](
        WORKLOADS[options.workload], options.directory, options.device, options.steps, options.seed, meter
    )
    device = torch.device(options.device)
    place = torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device
    result = {
        "workload": options.workload,
        "arm": options.arm,
        "seed": options.seed,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "peak_bytes": memory.peak_bytes(place),
        "steps": meter.steps,
        **more,
    }
    options.out.write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
