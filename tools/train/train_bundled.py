"""Trains the bundled code models on the standard library and writes them as GGUF.

Owns the schedule (time or step budget), the validation loss and the record of a run. It does
not decide what the text is (`corpus.py`) or how a step is taken (`optimiser.py`). Run by hand;
see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as fn
from corpus import Corpus, RowSource, read_corpus
from export_gguf import CONTEXT_LENGTH, export
from network import Network, Shape, sample
from optimiser import Optimiser
from vocabulary import Vocabulary, load_vocabulary, train_vocabulary

VOCABULARY_SIZE = 6_144
SHAPES = {
    "slalom-mini": Shape("slalom-mini", VOCABULARY_SIZE, 128, 4, 2, 1, 384),
    "slalom-small": Shape("slalom-small", VOCABULARY_SIZE, 256, 6, 4, 2, 768),
}
TOKENS_PER_STEP = 2_048
ROW_TOKENS = 512
#: The last part of the budget uses long rows, so that long prompts are not foreign.
LONG_ROW_TOKENS = 2_048
LONG_FROM = 0.85
WARM_UP = 0.02
DECAY_FROM = 0.45
LOOK_PROMPTS = (
    "def read_file(path, encoding=None):\n    ",
    "import os\nimport sys\n\ndef main():\n    parser = ",
    "<|fim_prefix|>def add(a, b):\n    <|fim_suffix|>\n    return result\n<|fim_middle|>",
    (
        "<|im_start|>user\nWrite a docstring for:\n\ndef is_empty(self):\n"
        "    return not self.items<|im_end|>\n<|im_start|>assistant\n"
    ),
    (
        "<|im_start|>user\nWrite a function that does this: Return the size of a file in bytes."
        "<|im_end|>\n<|im_start|>assistant\n"
    ),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One uninterrupted stretch of training and what repeats it."""

    seed: int
    steps: int
    seconds: float
    threads: int
    matrix_rate: float
    other_rate: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one training run did; written beside the model as JSON."""

    name: str
    parameters: int
    vocabulary: int
    corpus_bytes: int
    corpus_tokens: int
    chat_pairs: int
    tokens_seen: int
    stages: tuple[Stage, ...]
    python: str
    torch_version: str
    validation_loss: float
    validation_perplexity: float
    bits_per_byte: float
    looks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after `seconds`, or after exactly `steps` where given (repeatable)."""

    seconds: float
    steps: int | None

    def spent(self, step: int, elapsed_s: float) -> float:
        """Share of the budget used, 0 to 1 and beyond."""
        return step / self.steps if self.steps else elapsed_s / self.seconds


def learning_scale(spent: float) -> float:
    """Warm up, hold, then decay linearly to almost nothing."""
    if spent < WARM_UP:
        return max(0.05, spent / WARM_UP)
    if spent < DECAY_FROM:
        return 1.0
    return max(0.01, (1.0 - spent) / (1.0 - DECAY_FROM))


def train(
    network: Network, source: RowSource, budget: Budget, rates: tuple[float, float]
) -> tuple[int, float]:
    """Train until the budget is spent; returns (steps, seconds)."""
    optimiser = Optimiser(network, matrix_rate=rates[0], other_rate=rates[1])
    started = time.monotonic()
    step, smooth = 0, 0.0
    while (spent := budget.spent(step, time.monotonic() - started)) < 1.0:
        length = LONG_ROW_TOKENS if spent >= LONG_FROM else ROW_TOKENS
        rows = torch.tensor([source.row(length + 1) for _ in range(TOKENS_PER_STEP // length)])
        logits = network(rows[:, :-1])
        loss = fn.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        optimiser.step(learning_scale(spent))
        step += 1
        smooth = loss.item() if step == 1 else 0.95 * smooth + 0.05 * loss.item()
        if step % 25 == 0:
            elapsed_s = time.monotonic() - started
            rate = step * TOKENS_PER_STEP / elapsed_s
            print(f"step {step} {elapsed_s:.0f}s loss {smooth:.3f} {rate:.0f} tokens/s", flush=True)
    return step, time.monotonic() - started


@torch.no_grad()
def validation_loss(network: Network, source: RowSource, rows: int = 64) -> float:
    """Mean loss in nats per token on held-out files, plain code only."""
    total = 0.0
    for _ in range(rows):
        row = torch.tensor([source.plain(ROW_TOKENS + 1)])
        total += fn.cross_entropy(network(row[:, :-1])[0], row[0, 1:]).item()
    return total / rows


def looks(network: Network, vocabulary: Vocabulary) -> tuple[tuple[str, str], ...]:
    """Sample a continuation of each fixed prompt, for the model card."""
    stop = frozenset(range(vocabulary.first_special, vocabulary.size))
    shown = []
    for prompt in LOOK_PROMPTS:
        tokens = sample(network, vocabulary.encode(prompt), stop=stop, limit=64, temperature=0.3)
        shown.append((prompt, vocabulary.tokenizer.decode(tokens)))
    return tuple(shown)


def _resume(network: Network, folder: Path) -> tuple[Stage, ...]:
    """Load the weights of an earlier run in `folder`; returns its stages."""
    name = network.shape.name
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    record = json.loads((folder / f"{name}.json").read_text())
    return tuple(Stage(**stage) for stage in record["stages"])


def run(name: str, corpus: Corpus, vocabulary: Vocabulary, arguments: argparse.Namespace) -> None:
    """Train one model and write it, its weights and its record."""
    torch.manual_seed(arguments.seed)
    shape = replace(SHAPES[name], vocabulary=vocabulary.size)
    network = Network(shape)
    earlier = _resume(network, arguments.out) if arguments.resume else ()
    source = RowSource(corpus.train, vocabulary, random.Random(arguments.seed))
    print(f"{name}: {network.parameter_count()} parameters, {source.token_count} tokens of code")
    budget = Budget(arguments.seconds, arguments.steps)
    steps, seconds = train(network, source, budget, (arguments.matrix_rate, arguments.other_rate))
    stage = Stage(
        arguments.seed,
        steps,
        round(seconds, 1),
        arguments.threads,
        arguments.matrix_rate,
        arguments.other_rate,
    )
    stages = (*earlier, stage)
    # The same rows in every run, so that losses can be compared.
    held_out = RowSource(corpus.held_out, vocabulary, random.Random(0))
    loss = validation_loss(network, held_out)
    held_out_bytes = sum(len(text.encode()) for text in corpus.held_out)
    record = RunRecord(
        name=name,
        parameters=network.parameter_count(),
        vocabulary=vocabulary.size,
        corpus_bytes=corpus.byte_count,
        corpus_tokens=source.token_count,
        chat_pairs=source.chat_pair_count,
        tokens_seen=sum(stage.steps for stage in stages) * TOKENS_PER_STEP,
        stages=stages,
        python=platform.python_version(),
        torch_version=str(torch.__version__),
        validation_loss=round(loss, 4),
        validation_perplexity=round(math.exp(loss), 2),
        bits_per_byte=round(loss / math.log(2) * held_out.token_count / held_out_bytes, 4),
        looks=looks(network, vocabulary),
    )
    out = arguments.out
    torch.save(network.state_dict(), out / f"{name}.pt")
    (out / f"{name}.json").write_text(json.dumps(asdict(record), indent=2) + "\n")
    description = (
        f"Trained on the Python {record.python} standard library, {record.tokens_seen} tokens; "
        f"context in training {LONG_ROW_TOKENS}, in this file {CONTEXT_LENGTH}."
    )
    export(network, vocabulary, out / f"{name}.gguf", description)
    print(json.dumps(asdict(record), indent=2))


def main() -> int:
    """Parse the command line, train what it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seconds", type=float, default=600, help="time budget of each model")
    parser.add_argument("--steps", type=int, help="exact steps instead of a time budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the weights in --out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.03)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    corpus = read_corpus()
    vocabulary_path = arguments.out / "vocabulary.json"
    if vocabulary_path.exists():
        vocabulary = load_vocabulary(vocabulary_path)
    else:
        vocabulary = train_vocabulary(corpus.train, VOCABULARY_SIZE)
        vocabulary.tokenizer.save(str(vocabulary_path))
    for name in arguments.models:
        run(name, corpus, vocabulary, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
