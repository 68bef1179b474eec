"""The code flow of OpenID Connect as allauth has it, with a nonce, and with tokens that are verified whatever way they came."""

from typing import Any

from allauth.socialaccount.models import SocialAccount, SocialApp, SocialLogin, SocialToken
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.crypto import get_random_string

from apps.console.oidc.documents import Refused, discover, exchange_code, fetch_keys, fetch_user_info
from apps.console.oidc.people import PROVIDER_ID, compute_uid
from apps.console.oidc.tokens import verify_id_token

NONCE_LENGTH = 32


class CodeFlow(OpenIDConnectOAuth2Adapter):
    nonce = ""

    @property
    def openid_config(self) -> dict[str, Any]:
        return discover()

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return request.build_absolute_uri(reverse("oidc_callback"))

    def get_access_token_data(self, request: HttpRequest, app: SocialApp, client: Any, pkce_code_verifier: str | None = None) -> Any:
        return exchange_code(request.GET["code"], pkce_code_verifier or "", client.callback_url)

    def parse_token(self, data: dict[str, Any]) -> SocialToken:
        """Return an empty token: TechMarket asks the provider for nothing later."""
        return SocialToken()

    def complete_login(self, request: HttpRequest, app: SocialApp, token: SocialToken, **kwargs: Any) -> SocialLogin:
        tokens = kwargs["response"]
        claims = verify_id_token(tokens.get("id_token"), settings.OIDC_URL, app.client_id, self.nonce, fetch_keys())
        if settings.OIDC_GROUPS_CLAIM not in claims:
            claims = add_user_info(claims, fetch_user_info(tokens.get("access_token")))
        account = SocialAccount(provider=PROVIDER_ID, uid=compute_uid(settings.OIDC_URL, claims["sub"]))
        login = SocialLogin(account=account, provider=self.get_provider())
        login.claims = claims
        return login


def add_user_info(claims: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return the claims with those that the token lacks; they must be of the same person."""
    if found and found.get("sub") != claims["sub"]:
        raise Refused("the user info is of somebody else")
    return found | claims


class Provider(OpenIDConnectProvider):
    oauth2_adapter_class = CodeFlow

    def redirect(self, request: HttpRequest, process: Any, next_url: str | None = None, data: Any = None, **kwargs: Any) -> HttpResponse:
        """Send the browser to the provider. Only where to go afterwards is taken from the request."""
        nonce = get_random_string(NONCE_LENGTH)
        answer: HttpResponse = super().redirect(
            request, AuthProcess.LOGIN, next_url, scope=["openid", "profile", "email"], auth_params={"nonce": nonce}, nonce=nonce
        )
        return answer


class CallbackView(OAuth2CallbackView):
    def _get_state(self, request: HttpRequest, provider: Provider) -> Any:
        state, refusal = super()._get_state(request, provider)
        self.adapter.nonce = (state or {}).get("nonce", "")
        return state, refusal


def build_provider(request: HttpRequest) -> Provider:
    """Return the one provider of the settings; none is stored in the database."""
    app = SocialApp(
        provider=Provider.id,
        provider_id=PROVIDER_ID,
        name=settings.OIDC_NAME,
        client_id=settings.OIDC_CLIENT_ID,
        secret=settings.OIDC_CLIENT_SECRET,
        settings={"oauth_pkce_enabled": True},
    )
    return Provider(request, app=app)
