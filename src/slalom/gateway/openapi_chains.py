"""What the description of a chain must be, what one is told as, and what a call says of its own.

Owns these three schemas. Whether the steps of a chain make sense is beyond them: steps that
contradict each other, or a chain that has no such call any more, are refused with 409, names that
nobody knows with 404. Pure data, for the other `openapi_` files.
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
#: A count of calls written as a text, as `chain_words` reads it.
_COUNT_TEXT: Schema = {"type": "string", "pattern": "^(0{0,7}[1-9]|0{0,6}([1-5][0-9]|6[0-4]))$"}
_COUNT_NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": STEPS_MAX}
#: No text of digits alone, which would be the number of a step.
_STEP_NAME: Schema = {
    "type": "string",
    "pattern": "^[0-9]{0,127}[A-Za-z._:/+=@-][A-Za-z0-9._:/+=@-]{0,127}$",
    "maxLength": 128,
}
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
#: What a call says of the chain it belongs to, in the field `slalom_chain` of its body.
WORDS: Schema = {
    **objects(
        {"id": _NAME},
        **optional(
            step=any_of(_COUNT_NUMBER, _COUNT_TEXT, _STEP_NAME),
            steps=any_of(_COUNT_NUMBER, _COUNT_TEXT),
            template=_NAME,
        ),
        deadline_ms=_DEADLINE,
    ),
    "additionalProperties": False,
}
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
