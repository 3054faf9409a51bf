"""Libraries and small tools, unchanged: a streamed answer from a real model, a tool where they can.

The official SDKs of OpenAI and Anthropic are tested in every run (tests/live/test_protocols.py);
those here need environments of their own.
"""

import json

import pytest
import yaml

from tests.clients.editor import editor
from tests.clients.place import Place
from tests.clients.scripted_model import SENTENCE, Script
from tests.live.live_server import KEY

pytestmark = [pytest.mark.live, pytest.mark.timeout(700)]

CHAT = "/v1/chat/completions"
REAL = "slalom-small"
TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Runs a command.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}

_LITELLM = """
import json, sys
import litellm
base, key, tool = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
def ask(model, **more):
    messages = [{"role": "user", "content": "def add(a, b):"}]
    return litellm.completion(f"openai/{model}", messages, api_base=base, api_key=key,
                              max_tokens=16, stream=True, **more)
text = "".join(chunk.choices[0].delta.content or "" for chunk in ask("slalom-small"))
chunks = list(ask("scripted", tools=[tool]))
built = litellm.stream_chunk_builder(chunks)
call = built.choices[0].message.tool_calls[0].function
print(json.dumps({"text": text, "tool": call.name, "arguments": call.arguments}))
"""


@pytest.mark.client("litellm")
async def test_litellm(place: Place) -> None:
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    said = await place.run("litellm", "-c", _LITELLM, place.v1, KEY, json.dumps(TOOL), env=env)
    found = json.loads(said.splitlines()[-1])
    assert found["text"]
    assert (found["tool"], json.loads(found["arguments"])) == ("bash", {"command": "cat fact.txt"})
    assert await place.streamed(CHAT, REAL)


@pytest.mark.client("llm")
async def test_llm(place: Place) -> None:
    rows = [
        {
            "model_id": name,
            "model_name": name,
            "api_base": place.v1,
            "api_key_name": "slalom",
            "supports_tools": True,
        }
        for name in (REAL, "scripted")
    ]
    place.write(".config/io.datasette.llm/extra-openai-models.yaml", yaml.safe_dump(rows))
    place.write(".config/io.datasette.llm/keys.json", json.dumps({"slalom": KEY}))
    options = ("-o", "max_tokens", "16", "--no-log")
    assert (await place.run("llm", "-m", REAL, *options, "def add(a, b):")).strip()
    tool = "def bash(command: str) -> str:\n    return open(command.split()[1]).read()\n"
    said = await place.run("llm", "-m", "scripted", *options, "--functions", tool, "What is it?")
    assert place.fact in said
    assert await place.streamed(CHAT, REAL)


_OLLAMA = """
import json, sys
import ollama
client = ollama.Client(host=sys.argv[1], headers={"authorization": "Bearer " + sys.argv[2]})
def ask(model, **more):
    messages = [{"role": "user", "content": "def add(a, b):"}]
    return client.chat(model, messages, stream=True, options={"num_predict": 16}, **more)
parts = list(ask("slalom-small"))
calls = [call for part in ask("scripted", tools=[json.loads(sys.argv[3])])
         for call in part.message.tool_calls or ()]
print(json.dumps({
    "text": "".join(part.message.content or "" for part in parts),
    "parts": len(parts),
    "done": parts[-1].done_reason,
    "tokens": parts[-1].eval_count,
    "models": [model.model for model in client.list().models],
    "tools": [[call.function.name, call.function.arguments] for call in calls],
}))
"""


@pytest.mark.client("ollama")
async def test_ollama(place: Place) -> None:
    said = await place.run("ollama", "-c", _OLLAMA, place.server.url, KEY, json.dumps(TOOL))
    found = json.loads(said)
    assert found["text"]
    assert found["parts"] > 2
    assert found["done"] in {"length", "stop"}
    assert 0 < found["tokens"] <= 16
    assert any(name.startswith(REAL) for name in found["models"])
    assert found["tools"] == [["bash", {"command": "cat fact.txt"}]]


_MISTRAL = """
import json, sys
from mistralai.client import Mistral
client = Mistral(api_key=sys.argv[2], server_url=sys.argv[1])
gap = {"model": "slalom-small", "prompt": "def add(a, b):\\n    return ", "suffix": "\\n",
       "max_tokens": 16}
whole = client.fim.complete(**gap)
streamed = [event.data for event in client.fim.stream(**gap)]
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "tokens": whole.usage.completion_tokens,
    "text": "".join(chunk.choices[0].delta.content or "" for chunk in streamed),
    "finish": streamed[-1].choices[0].finish_reason,
}))
"""


@pytest.mark.client("mistralai")
async def test_mistralai(place: Place) -> None:
    said = await place.run("mistralai", "-c", _MISTRAL, place.server.url, KEY)
    found = json.loads(said)
    assert found["whole"]
    assert found["text"]
    assert 0 < found["tokens"] <= 16
    assert found["finish"] in {"length", "stop"}
    assert await place.streamed("/v1/fim/completions", REAL)


@pytest.mark.client("tabby")
async def test_tabby(place: Place) -> None:
    config = f'[server]\nendpoint = "{place.server.url}"\ntoken = "{KEY}"\n'
    quiet = "[anonymousUsageTracking]\ndisable = true\n"
    place.write(".tabby-client/agent/config.toml", config + quiet)
    async with editor(place, "tabby", "--lsp", "--stdio") as open_file:
        await open_file.open("def add(a, b):\n    return \n\nprint(add(1, 2))\n")
        suggested = await open_file.complete(1, len("    return "))
        assert await open_file.close() == 0
    (record,) = await place.answered("/v1/completions", REAL, stream=False)
    assert record["output_tokens"] > 0
    assert suggested[0]["textEdit"]["newText"]
    assert suggested[0]["data"]["completionId"] == record["request_id"]


@pytest.mark.client("aider")
async def test_aider(place: Place, script: Script) -> None:
    env = {
        "OPENAI_API_BASE": place.v1,
        "OPENAI_API_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    options = ("--no-git", "--no-analytics", "--analytics-disable", "--no-check-update", "--yes")
    more = ("--no-show-model-warnings", "--no-gitignore", "--no-pretty", "--no-show-release-notes")
    settings = [{"name": f"openai/{name}", "edit_format": "ask"} for name in (REAL, "scripted")]
    limited = [{**row, "extra_params": {"max_tokens": 64}} for row in settings]
    path = place.write("models.yml", yaml.safe_dump(limited))
    for name in (REAL, "scripted"):
        said = await place.run(
            "aider",
            *("--model", f"openai/{name}", "--model-settings-file", str(path)),
            *(*options, *more, "--message", "What is in fact.txt?", "fact.txt"),
            env=env,
        )
        assert await place.streamed(CHAT, name)
    assert SENTENCE in said
    assert any(place.fact in str(body["messages"]) for body in script.bodies)
