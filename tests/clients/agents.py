"""How each coding agent is pointed at a server and asked one thing.

Owns one function per agent: configuration in its own words, one run without a terminal, what it
said. docs/reference/clients.md tells the same for people.
"""

import json
from collections.abc import Awaitable, Callable

import yaml

from tests.clients.place import Place
from tests.live.live_server import KEY

ASK = "Say what is in fact.txt."
#: Enough for a sentence; a model that says nothing of use is not to say it for long.
ANSWER_TOKENS = 64


async def claude(place: Place, model: str) -> str:
    """Claude Code, over Anthropic's messages."""
    env = {
        "ANTHROPIC_BASE_URL": place.server.url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(ANSWER_TOKENS),
        "DISABLE_AUTOUPDATER": "1",
    }
    models = ("--model", model, "--allowedTools", "Bash")
    # A model that babbles comes to the limit each time: Claude Code takes that for a failure.
    babbled = "output token maximum"
    return await place.run("claude", "-p", ASK, *models, env=env, excuse=babbled)


async def codex(place: Place, model: str) -> str:
    """Codex, over OpenAI's Responses."""
    place.write(
        ".codex/config.toml",
        f"""
model = "{model}"
model_provider = "slalom"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
web_search = "disabled"

[analytics]
enabled = false

[model_providers.slalom]
name = "Slalom"
base_url = "{place.v1}"
env_key = "SLALOM_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
""",
    )
    return await place.run("codex", "exec", "--skip-git-repo-check", ASK, env={"SLALOM_KEY": KEY})


async def opencode(place: Place, model: str) -> str:
    """opencode, over chat completions."""
    limits = {"context": 32_768, "output": ANSWER_TOKENS}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": place.v1, "apiKey": KEY},
        "models": {model: {"limit": limits}},
    }
    config = {
        "provider": {"slalom": provider},
        "model": f"slalom/{model}",
        "small_model": f"slalom/{model}",
        "autoupdate": False,
        "share": "disabled",
        "permission": "allow",
    }
    place.write("work/opencode.json", json.dumps(config))
    env = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"}
    return await place.run("opencode", "run", ASK, env=env)


async def qwen(place: Place, model: str) -> str:
    """Qwen Code, over chat completions."""
    settings = {
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"disableAutoUpdate": True},
        "security": {"auth": {"selectedType": "openai"}},
        # Else each answer is followed by a request of 11,000 tokens that looks for memories.
        "memory": {"enableManagedAutoMemory": False},
        "model": {"generationConfig": {"samplingParams": {"max_tokens": ANSWER_TOKENS}}},
    }
    place.write(".qwen/settings.json", json.dumps(settings))
    env = {"OPENAI_BASE_URL": place.v1, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": model}
    return await place.run("qwen", "--yolo", "-p", ASK, env=env)


async def continue_cli(place: Place, model: str) -> str:
    """Continue's command line, over chat completions."""
    row = {
        "name": model,
        "provider": "openai",
        "model": model,
        "apiBase": place.v1,
        "apiKey": KEY,
        "roles": ["chat"],
        "capabilities": ["tool_use"],
        "defaultCompletionOptions": {"contextLength": 32_768, "maxTokens": ANSWER_TOKENS},
    }
    config = {"name": "slalom", "version": "1.0.0", "schema": "v1", "models": [row]}
    path = place.write("continue.yaml", yaml.safe_dump(config))
    env = {"CONTINUE_TELEMETRY_ENABLED": "0", "CONTINUE_CLI_ENABLE_TELEMETRY": "0"}
    return await place.run("continue", "--config", str(path), "--auto", "-p", ASK, env=env)


#: By the name in `pins`, with the route that it asks.
AGENTS: dict[str, tuple[str, Callable[[Place, str], Awaitable[str]]]] = {
    "claude": ("/v1/messages", claude),
    "codex": ("/v1/responses", codex),
    "opencode": ("/v1/chat/completions", opencode),
    "qwen": ("/v1/chat/completions", qwen),
    "continue": ("/v1/chat/completions", continue_cli),
}
