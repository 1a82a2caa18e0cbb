from __future__ import annotations

import contextlib
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from advlora.errors import UserError
from advlora_platform.execution.address import check_token, expect_cluster, refuse_ray_client

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _no_token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)


def test_ray_client_is_refused_in_one_sentence():
    with pytest.raises(
        UserError, match=r"^--address=ray://head:10001: .*advlora submit STUDY --address http"
    ) as refused:
        refuse_ray_client("ray://head:10001", "--address")
    assert len(refused.value.problems) == 1
    with pytest.raises(UserError, match=r"^RAY_ADDRESS=ray://head:10001: "):
        expect_cluster("ray://head:10001")


def test_a_token_that_is_asked_for_and_missing_is_named(monkeypatch, tmp_path):
    check_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(UserError, match=rf"no token in RAY_AUTH_TOKEN_PATH={tmp_path}/\.ray/auth_token; set "):
        check_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    for wrong in (None, " \n"):
        if wrong is not None:
            (tmp_path / "token").write_text(wrong)
        with pytest.raises(UserError, match=f"no token in RAY_AUTH_TOKEN_PATH={tmp_path}/token"):
            check_token()
    (tmp_path / "token").write_text("secret")
    check_token()


def test_a_token_in_the_environment_is_enough(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    check_token()


class Head(grpc.GenericRpcHandler):
    """A head that tells its id to whoever shows the token, as that of Ray does."""

    def service(self, details):
        shown = dict(details.invocation_metadata).get("authorization")
        return grpc.unary_unary_rpc_method_handler(self.tell if shown == "Bearer right" else self.refuse)

    def tell(self, request, context):
        return b""

    def refuse(self, request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")


@pytest.mark.parametrize(("token", "let_in"), [(None, False), ("wrong", False), ("right", True)])
def test_a_cluster_that_asks_for_a_token_is_told_from_one_that_is_not_there(token, let_in, monkeypatch):
    header = {} if token is None else {"authorization": f"Bearer {token}"}
    loader = types.SimpleNamespace(get_token_for_http_header=lambda: header)
    monkeypatch.setattr("ray._raylet.AuthenticationTokenLoader", types.SimpleNamespace(instance=lambda: loader))
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Head()])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with contextlib.nullcontext() if let_in else pytest.raises(UserError, match=r"RAY_ADDRESS=.*asks for a token"):
        expect_cluster(address)
    server.stop(None)
