"""Copies trained models into the package and writes their model card.

Owns the card's wording; the figures come from the records that `train_bundled.py` left beside
the models. Run by `run.sh`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

CARD = """\
# The bundled models

Two small language models for Python code, made for trying out and testing a server: real
weights, real tokenizers, real fill-in-the-middle and chat markup, small enough to come with the
package. They are not made for writing software.

{table}

Loss is in nats per token on whole files that were not trained on (one file in 40), plain code,
rows of 512 tokens.

## Data

The Python files of the standard library of CPython {python} ({megabytes:.1f} MB without tests,
codec tables and bundled packages; {tokens:,} tokens), and nothing else. 45 % of the rows are plain
code, 35 % fill-in-the-middle (prefix, suffix, middle), 20 % chat: {pairs:,} short documented
functions turned into requests for a docstring, a summary, a function, a completion, or a
translation to JavaScript. Those translations were made by replacing words line by line; they
have the form of JavaScript and often not its meaning.

## Form

Qwen2 layout, output matrix tied to the embedding, q8_0, a byte-level vocabulary of {vocabulary:,}
tokens shared by both (pre-tokeniser `qwen2`). Markup: `<|im_start|>role … <|im_end|>`,
`<|fim_prefix|> … <|fim_suffix|> … <|fim_middle|>`; a text or a filled hole ends with
`<|endoftext|>`.

## Limits

- The text looks like code and follows the local style; it rarely means anything and seldom
  runs. Chat answers have the form asked for, not the content.
- Both have seen little text (about one pass over the data) and their loss was still falling.
  Greedy text soon repeats itself; a filled hole has the style of its surroundings but seldom
  takes up their names.
- Training rows were 512 tokens long, in the last part 2,048. The files allow 32,768 so that long
  prompts can be served; beyond about 2,000 tokens the text gets worse.
- Python and English only. The text may repeat passages of the standard library word for word.

## Licence

The data is the standard library, under the PSF License Agreement version 2 (copyright Python
Software Foundation); some of its modules carry further notices of their authors. Both come with
every Python: `license()` shows the former. The weights are given under the same licence.

## Made by

`tools/train` in the repository. With the same Python and torch these repeat the runs:

~~~sh
{commands}
~~~

## Samples

Temperature 0.3, the first 64 tokens.

{samples}
"""


def table(records: list[dict[str, Any]]) -> str:
    """The figures of all models, one column each."""
    rows = [
        ("parameters", "{parameters:,}"),
        ("file, bytes", "{file_bytes:,}"),
        ("tokens seen in training", "{tokens_seen:,}"),
        ("minutes of training (one busy core)", "{minutes:.0f}"),
        ("loss on held-out files", "{validation_loss:.3f}"),
        ("perplexity per token", "{validation_perplexity:.1f}"),
        ("bits per byte", "{bits_per_byte:.3f}"),
    ]
    head = "| | " + " | ".join(f"`{record['name']}`" for record in records) + " |\n"
    rule = "|---|" + "---:|" * len(records) + "\n"
    body = [
        f"| {name} | " + " | ".join(form.format(**record) for record in records) + " |"
        for name, form in rows
    ]
    return head + rule + "\n".join(body)


def command_lines(record: dict[str, Any]) -> list[str]:
    """What to type to repeat a model's training, stage by stage."""
    return [
        f"tools/train/run.sh {record['name']} --steps {stage['steps']} --seed {stage['seed']} "
        f"--threads {stage['threads']} --matrix-rate {stage['matrix_rate']} "
        f"--other-rate {stage['other_rate']}{' --resume' if number else ''}"
        for number, stage in enumerate(record["stages"])
    ]


def samples(records: list[dict[str, Any]]) -> str:
    """What each model made of each prompt."""
    shown = []
    for record in records:
        for prompt, text in record["looks"]:
            shown.append(f"`{record['name']}`\n\n~~~text\n{prompt}▶{text}\n~~~\n")
    return "\n".join(shown).rstrip()


def main() -> int:
    """Copy the models named by the records and write the card beside them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--package", type=Path, required=True)
    arguments = parser.parse_args()
    records = []
    for path in sorted(arguments.records.glob("slalom-*.json")):
        model = path.with_suffix(".gguf")
        shutil.copyfile(model, arguments.package / model.name)
        record = json.loads(path.read_text())
        record["file_bytes"] = model.stat().st_size
        record["minutes"] = sum(stage["seconds"] for stage in record["stages"]) / 60
        records.append(record)
    if not records:
        parser.error(f"no records of trained models in {arguments.records}: train first")
    records.sort(key=lambda record: int(record["parameters"]))
    first = records[0]
    commands = "\n".join(line for record in records for line in command_lines(record))
    card = CARD.format(
        table=table(records),
        python=first["python"],
        megabytes=first["corpus_bytes"] / 1e6,
        tokens=first["corpus_tokens"],
        pairs=first["chat_pairs"],
        vocabulary=first["vocabulary"],
        commands=commands,
        samples=samples(records),
    )
    (arguments.package / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
