"""Addresses of clusters: which kinds work, whether somebody answers, and what to do where a token is asked for."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from advlora.errors import UserError, first_line

PATIENCE = 10.0
"""Seconds until a cluster's port has to answer."""
MODE, TOKEN, TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
WITH_TOKEN = f"set {MODE}=token, and {TOKEN_FILE} to a file that holds the token of the cluster"

NOT_LET_IN = f"the cluster asks for a token and gets none, or another one: {WITH_TOKEN}"


def refuse_ray_client(address: str, key: str) -> None:
    """Refuses a Ray Client, whose driver would run observers on the head, without their locks and files.

    Args:
        address: The address of a cluster.
        key: The option or variable that holds it, for the message.

    Raises:
        UserError: If the address begins with `ray://`.
    """
    if address.startswith("ray://"):
        raise UserError(
            f"{key}={address}: a study is not driven through Ray Client; run 'advlora submit STUDY --address "
            "http://HEAD:8265', or set RAY_ADDRESS=HEAD:6379 on a node of the cluster"
        )


def expect_answer(target: SplitResult, address: str, key: str) -> None:
    """Waits a little for a port to answer: Ray itself goes on trying for minutes.

    Raises:
        UserError: If nothing listens there.
    """
    try:
        if target.hostname and target.port:
            socket.create_connection((target.hostname, target.port), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:  # a port that is no number is a ValueError
        raise UserError(f"no Ray at {key}={address}: {first_line(error)}") from error


def expect_cluster(address: str) -> None:
    """Checks what `RAY_ADDRESS` says before Ray does, which would go on trying for half a minute.

    Raises:
        UserError: If it names a Ray Client, nothing listens there, or the cluster does not take this process's token.
    """
    refuse_ray_client(address, "RAY_ADDRESS")
    if address == "local":
        return
    check_token()
    if "://" not in address:
        target = urlsplit(f"//{address}")
        expect_answer(target, address, "RAY_ADDRESS")
        if target.port and not _lets_in(address):
            raise UserError(f"no Ray at RAY_ADDRESS={address}: {NOT_LET_IN}")


def _lets_in(address: str) -> bool:
    """Asks the head for the cluster's id, which it tells whoever has the token."""
    import grpc
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # its stubs lag behind

    header = AuthenticationTokenLoader.instance().get_token_for_http_header() if _with_token() else {}
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
        try:
            ask(b"", timeout=PATIENCE, metadata=list(header.items()))
        except grpc.RpcError as error:  # any other answer is left to Ray
            return bool(error.code() != grpc.StatusCode.UNAUTHENTICATED)
    return True


def _with_token() -> bool:
    return os.environ.get(MODE, "").lower() == "token"


def check_token() -> None:
    """Checks what Ray ends the process for.

    Raises:
        UserError: If this process shall show a token and has none.
    """
    if not _with_token() or os.environ.get(TOKEN):
        return
    named = os.environ.get(TOKEN_FILE)
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        missing = not file.read_text().strip()
    except OSError:
        missing = True
    if missing:
        raise UserError(f"{MODE}=token, but there is no token in {TOKEN_FILE}={file}; {WITH_TOKEN}")
