"""What the description of a chain must be, and what one is told as.

Owns these two schemas. Whether the steps of a chain make sense is beyond them: steps that
contradict each other are refused with 409, names that nobody knows with 404. Pure data, for
`openapi_bodies` and `openapi_answers`.
"""

from slalom.core.chain import STEPS_MAX
from slalom.gateway.chain_words import DEADLINE_MS_MAX, DEADLINE_MS_MIN
from slalom.gateway.openapi_schemas import (
    MODEL,
    NULL,
    NUMBER,
    TEXT,
    WHOLE,
    WORD,
    Schema,
    any_of,
    kind,
    listed,
    objects,
    optional,
    or_null,
)
from slalom.gateway.request_body import TOKENS_MAX

_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"}
_TOKENS: Schema = {"type": "integer", "minimum": 0, "exclusiveMaximum": TOKENS_MAX}
_STEP: Schema = {
    **objects(
        {"model": MODEL},
        **optional(
            name=_NAME,
            task=WORD,
            prompt_tokens=_TOKENS,
            output_tokens=_TOKENS,
            gap_ms={"type": "number", "minimum": 0, "maximum": DEADLINE_MS_MAX},
            then=any_of(_NAME, {**listed(_NAME, 0), "maxItems": STEPS_MAX}),
        ),
    ),
    "additionalProperties": False,
}
_DEADLINE = or_null({"type": "number", "minimum": DEADLINE_MS_MIN, "maximum": DEADLINE_MS_MAX})
_STEPS: Schema = {**listed(_STEP), "maxItems": STEPS_MAX}


def _described(needed: dict[str, Schema], nothing: str) -> Schema:
    found = objects(needed, **{nothing: NULL}, deadline_ms=_DEADLINE)
    return {**found, "additionalProperties": False}


#: Body of `POST /v1/chains`.
CHAIN = any_of(_described({"template": _NAME}, "steps"), _described({"steps": _STEPS}, "template"))

_COUNT: Schema = {"type": "integer", "minimum": 0}
_EXPECTED = objects(
    {
        "step": WHOLE,
        "name": or_null(TEXT),
        "model": TEXT,
        "task": TEXT,
        "gap_ms": NUMBER,
        "predicted_ms": NUMBER,
    }
)
#: What all its routes answer.
CHAIN_TOLD = kind(
    "chain",
    field="object",
    needed={
        "id": TEXT,
        "status": {"enum": ["open", "done", "late", "idle", "abandoned"]},
        "template": or_null(TEXT),
        "steps": or_null(_COUNT),
        "done": _COUNT,
        "next": or_null(TEXT),
        "running": _COUNT,
        "predicted_ms": NUMBER,
        "remaining_ms": or_null(NUMBER),
        "slack_ms": or_null(NUMBER),
        "expected": listed(_EXPECTED, 0),
    },
)
