"""What every request passes: who is it, by which door, how often, and may they open this address at all."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views import defaults

from flowbuilder import policy, throttle
from flowbuilder.bodies import too_large_text
from flowbuilder.policy import API
from flowbuilder.rates import Rate, read_rate
from workflows import access, audit, tokens

NUL: Final = "%00"
"""No column of PostgreSQL holds it; the forms and the API refuse it themselves."""
BAD_TOKENS: Final = Rate(30, 60)
"""Tokens that do not work, per address, before the answer is 429."""


class DoorMiddleware:
    """Let requests in by the rules of ``policy``; what they change is noted with who did it and by which door.

    A request with a bearer token is one of the token's owner, whatever cookies it has.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request."""
        if request.path.startswith(f"{API}/"):
            return _private(_as_json(self._api(request)))
        if request.path.startswith(("/admin/", "/approvals/")):
            if NUL in request.META.get("QUERY_STRING", ""):
                return HttpResponseBadRequest("an address must not contain a NUL character", content_type="text/plain")
            with audit.acting(request.user, audit.Door.ADMIN):
                return self.get_response(request)
        return self.get_response(request)

    def _api(self, request: Any) -> HttpResponseBase:
        address = throttle.address_of(request)
        text = bearer(request)
        request.token = tokens.find(text) if text is not None else None
        if request.token is not None:
            request.user, asks = request.token.owner, f"token:{request.token.prefix}"
        elif text is not None:
            wait = throttle.take(f"bad-token:{address}", BAD_TOKENS)
            if wait:
                return too_many(wait)
            answer = _problem(401, "the token does not work: it is mistyped, revoked or expired")
            answer["WWW-Authenticate"] = 'Bearer error="invalid_token"'
            return answer
        else:
            asks = f"user:{request.user.pk}" if request.user.is_authenticated else f"address:{address}"
        request.asks = asks
        wait = throttle.take(asks, read_rate(settings.API_RATE))
        if wait:
            return too_many(wait)
        with audit.acting(request.user, audit.Door.API, via=request.token.prefix if request.token else ""):
            return self.get_response(request)

    def process_view(self, request: Any, view: Any, args: Any, kwargs: dict[str, Any]) -> HttpResponseBase | None:
        """Refuse an address that has no rule, a token without the scope, and changes of what one may only see."""
        route, method = request.resolver_match.route, request.method
        rule = policy.rule_of(route, method)
        if rule is None:
            if request.path.startswith(f"{API}/") and policy.has_operations(route):
                return None  # it is there, but not with this method, as its view says
            return _problem(403, "nobody may open this address: it has no rule in flowbuilder/policy.py")
        if not rule.scope:
            return None
        if request.token is not None and not tokens.allows(request.token, rule.scope):
            return _problem(403, f'the token "{request.token.name}" lacks the scope "{rule.scope}"', "scope")
        name = policy.operation(route, method)
        if name in policy.STARTS:
            wait = throttle.take(f"start:{request.asks}", read_rate(settings.START_RATE))
            if wait:
                return too_many(wait)
        changes = access.verb_of(method) == "change" and name not in policy.READING_POSTS | policy.FOR_NAMED
        if changes and _only_sees(request.user, kwargs):
            return _problem(403, "you may see this, but it belongs to somebody else and you may not change it")
        return None


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that cannot be read; 413 with the limit and the way out when it is only too large."""
    if isinstance(exception, RequestDataTooBig):
        text = too_large_text()
        return render(request, "413.html", {"reason": text[0].upper() + text[1:]}, status=413)
    return defaults.bad_request(request, exception)


def bearer(request: HttpRequest) -> str | None:
    """Return the text of a bearer token, None when the request does not bring one."""
    scheme, _, text = request.headers.get("Authorization", "").strip().partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def too_many(seconds: int) -> HttpResponse:
    """Return the answer to somebody who asks too often."""
    answer = _problem(429, f"too many requests; come again in {seconds} s", "rate_limited")
    answer["Retry-After"] = str(seconds)
    return answer


def _only_sees(user: Any, named: dict[str, Any]) -> bool:
    """Return whether an address names a thing of somebody else that ``user`` sees, but may not change."""
    if not user.is_authenticated or not access.sees_everything(user) or access.changes_everything(user):
        return False
    return any(_is_foreign(user, name, named[name]) for name in named.keys() & policy.THINGS.keys())


def _is_foreign(user: Any, name: str, key: Any) -> bool:
    rows: Any = apps.get_model(policy.THINGS[name])._default_manager
    wanted = Q(pk=key) | Q(execution_id=key) if name in policy.BY_EXECUTION else Q(pk=key)
    try:
        return rows.filter(wanted).exists() and not rows.changeable_by(user).filter(wanted).exists()
    except (ValidationError, ValueError):
        return False  # no id at all


def _problem(status: int, detail: str, code: str = "") -> HttpResponse:
    return JsonResponse({"detail": detail, **({"code": code} if code else {})}, status=status)


def _private(response: HttpResponseBase) -> HttpResponseBase:
    """Keep caches on the way from giving somebody what another one asked for."""
    patch_vary_headers(response, ("Authorization", "Cookie"))
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def _as_json(response: HttpResponseBase) -> HttpResponseBase:
    """Return an error in the one shape that errors of the API have, also those that Django made."""
    if response.status_code < 400 or response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    detail = {404: "not found", 405: "this address does not take that method", 413: too_large_text()}
    answer = _problem(
        response.status_code, detail.get(response.status_code, HTTPStatus(response.status_code).phrase.lower())
    )
    if "Allow" in response.headers:
        answer["Allow"] = response.headers["Allow"]
    return answer
