"""The dashboard: one page for people who look at a running server.

Owns the page and what browsers may do with it: nothing but its own style and script, and asking
this server. It holds no data, so that it needs no key; what it shows it asks of the routes that
everybody else asks, with the key that its reader gives it. Called by `cold_routes`.
"""

import base64
import hashlib
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

PATH = "/dashboard"


async def dashboard(_request: Request) -> Response:
    """The page."""
    body, policy = _page()
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return Response(body, media_type="text/html", headers=headers)


@cache
def _page() -> tuple[bytes, str]:
    """The page with its style and script in it, and the policy that allows just these two."""
    folder = resources.files(__name__)
    html, style, script = (
        folder.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js")
    )
    body = html.replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; style-src {_allowed(style)}; script-src {_allowed(script)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return body.encode(), policy


def _allowed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
