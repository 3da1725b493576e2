"""Tokens of another issuer, checked with the keys of its key set."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from devkit_api.lifetimes import HTTP
from devkit_api.logs import correlation_id
from devkit_api.security import jwks
from tests.security.test_chain import SECRET, bearer, claims
from tests.support.waiting import PATIENCE

RSA_KEY = rsa.generate_private_key(65537, 2048)
SMALL_KEY = rsa.generate_private_key(65537, 1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(65537, 2048)


def public(key: Any, kid: str, **changes: Any) -> dict[str, Any]:
    kind = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **changes}


KEYS = {
    "keys": [
        public(RSA_KEY, "rsa-1"), public(EC_KEY, "ec-1"), public(SMALL_KEY, "small"),
        public(OTHER_KEY, "enc", use="enc"),
        {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "symmetric", "alg": "HS256"}, "junk", None,
    ]
}  # fmt: skip


def signed(key: Any, kid: str | None, algorithm: str = "RS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers={"kid": kid} if kid is not None else None)


def confused(secret: bytes, kid: str) -> str:
    """An HS256 token whose secret is the public key: the classic mix-up."""
    parts = ({"alg": "HS256", "typ": "JWT", "kid": kid}, claims())
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text, hashlib.sha256)).rstrip(b"=")
    return (text + b"." + signature).decode()


PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)  # fmt: skip


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An issuer is waited for, and not asked again, however long a test takes."""
    monkeypatch.setattr(jwks, "_TIMEOUT", ClientTimeout(total=PATIENCE))
    monkeypatch.setattr(jwks, "_PAUSE_SECONDS", PATIENCE)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(KEYS))
    return path


async def status(client: Any, token: str) -> int:
    async with client.anonymous.get(client.make_url("/v1/modules"), headers=bearer(token)) as answer:
        return int(answer.status)


async def test_tokens_of_listed_keys_pass_and_every_bent_one_is_refused(make_client: Any, key_file: Path) -> None:
    client = await make_client(jwt_jwks_file=key_file, jwt_secret=SECRET, rate_limit_read="off")
    assert await status(client, signed(RSA_KEY, "rsa-1")) == 200
    assert await status(client, signed(EC_KEY, "ec-1", "ES256")) == 200
    assert await status(client, jwt.encode(claims(), SECRET, algorithm="HS256")) == 200
    bent = {
        "another key": signed(OTHER_KEY, "rsa-1"),
        "no key name": signed(RSA_KEY, None),
        "unknown key": signed(RSA_KEY, "rsa-2"),
        "key of another kind": signed(RSA_KEY, "ec-1"),
        "algorithm not listed": signed(RSA_KEY, "rsa-1", "RS384"),
        "padding not listed": signed(RSA_KEY, "rsa-1", "PS256"),
        "too small a key": signed(SMALL_KEY, "small"),
        "a key for encryption": signed(OTHER_KEY, "enc"),
        "path as a name": signed(RSA_KEY, "../../../etc/passwd"),
        "address as a name": signed(RSA_KEY, "http://127.0.0.1/keys"),
        "SQL as a name": signed(RSA_KEY, "rsa-1' OR '1'='1"),
        "public key as secret": confused(PEM, "rsa-1"),
        "symmetric key of the set": confused(b"secretsecretsecretsecret", "symmetric"),
        "expired": signed(RSA_KEY, "rsa-1", exp=int(time.time()) - 3600),
        "from the future": signed(RSA_KEY, "rsa-1", nbf=int(time.time()) + 3600),
        "other audience": signed(RSA_KEY, "rsa-1", aud="elsewhere"),
        "other issuer": signed(RSA_KEY, "rsa-1", iss="elsewhere"),
        "no end": signed(RSA_KEY, "rsa-1", exp=None),
        "own key in the header": jwt.encode(
            claims(), OTHER_KEY, algorithm="RS256", headers={"kid": "rsa-1", "jwk": public(OTHER_KEY, "rsa-1")}
        ),
        "key address in the header": jwt.encode(
            claims(), OTHER_KEY, algorithm="RS256", headers={"kid": "x", "jku": "http://127.0.0.1:1/keys"}
        ),
    }
    for name, token in bent.items():
        assert await status(client, token) in {401, 429}, name


async def test_a_new_key_of_the_issuer_is_fetched_and_trouble_is_tried_again(
    make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = [503, {"keys": [public(RSA_KEY, "rsa-1")]}]
    asked = []

    async def answer(_request: web.Request) -> web.Response:
        now = served.pop(0) if len(served) > 1 else served[0]
        asked.append(now)
        return web.Response(status=now) if isinstance(now, int) else web.json_response(now)

    app = web.Application()
    app.router.add_get("/keys", answer)
    async with TestServer(app) as issuer:
        client = await make_client(jwt_jwks_url=str(issuer.make_url("/keys")))
        assert await status(client, signed(RSA_KEY, "rsa-1")) == 200
        assert len(asked) == 2  # a failure, and the second try
        assert await status(client, signed(RSA_KEY, "rsa-1")) == 200
        assert await status(client, signed(OTHER_KEY, "unknown")) == 401
        assert len(asked) == 2  # neither a known key nor a made-up name asks the issuer again at once
        monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
        served[0] = {"keys": [public(OTHER_KEY, "rsa-2")]}
        assert await status(client, signed(OTHER_KEY, "rsa-2")) == 200
        assert await status(client, signed(RSA_KEY, "rsa-1")) == 401  # rotated away


@pytest.mark.parametrize("content", [b"{}", b"[]", b"x", b'{"keys": {}}', b'{"keys": "' + b"x" * 300_000 + b'"}'])
async def test_without_keys_the_answer_is_503_and_says_why(make_client: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(content)
    client = await make_client(jwt_jwks_file=path)
    url = client.make_url("/v1/modules")
    async with client.anonymous.get(url, headers=bearer(signed(RSA_KEY, "rsa-1"))) as answer:
        assert answer.status == 503
        assert "key set" in (await answer.json())["error"]["message"]
    assert (await client.get("/v1/modules")).status == 200  # API keys need no issuer


async def test_the_issuer_is_told_for_which_request_it_is_asked(make_client: Any) -> None:
    told: list[list[str]] = []

    async def keys(request: web.Request) -> web.Response:
        told.append(request.headers.getall("X-Correlation-ID", []))
        return web.Response(status=500) if len(told) == 1 else web.json_response(KEYS)

    app = web.Application()
    app.router.add_get("/keys", keys)
    async with TestServer(app) as issuer:
        client = await make_client(jwt_jwks_url=str(issuer.make_url("/keys")))
        headers = {**bearer(signed(RSA_KEY, "rsa-1")), "X-Correlation-ID": "of-the-caller"}
        async with client.anonymous.get(client.make_url("/v1/modules"), headers=headers) as answer:
            assert answer.status == 200
        correlation_id.set("-")  # for nobody's request
        await (await client.server.app[HTTP].get(issuer.make_url("/keys"))).read()
    assert told == [["of-the-caller"], ["of-the-caller"], []]


async def test_an_issuer_that_redirects_is_not_followed(make_client: Any) -> None:
    async def redirect(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/keys")

    async def keys(_request: web.Request) -> web.Response:
        return web.json_response({"keys": [public(RSA_KEY, "rsa-1")]})

    app = web.Application()
    app.router.add_get("/moved", redirect)
    app.router.add_get("/keys", keys)
    async with TestServer(app) as issuer:
        client = await make_client(jwt_jwks_url=str(issuer.make_url("/moved")))
        assert await status(client, signed(RSA_KEY, "rsa-1")) == 503
