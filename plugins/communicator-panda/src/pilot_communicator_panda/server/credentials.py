"""`creds/*`, `metaconfig/get_resource_types` and `system/is_alive`."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.call import Envelope, answer
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda.server.call import Call

__all__ = [
    "get_access_token",
    "get_key_pair",
    "get_proxy",
    "get_resource_types",
    "get_token_key",
    "get_user_secrets",
    "is_alive",
    "set_user_secrets",
]

FLAGS = "ATLAS_PANDAMETA.USERS.GRIDPREF"
DATABASE_ERROR = "database error"


def is_alive(call: Call) -> Envelope:
    """Say that the server answers."""
    del call
    return answer(True)


def get_resource_types(call: Call) -> Envelope:
    """Tell the definitions of `SCORE`, `MCORE` ..."""
    try:
        types = call.store.resource_types()
    except StoreUnavailable:
        types = ()
    if not types:
        return answer(False, "database error in the PanDA server")
    return answer(True, data=[dict(kind) for kind in types])


def set_user_secrets(call: Call) -> Envelope:
    """Keep a secret of the caller."""
    try:
        call.store.set_secret(_user(call.dn), call.arguments["key"], call.arguments["value"])
    except StoreUnavailable:
        return answer(False, DATABASE_ERROR)
    return answer(True, "OK")


def get_user_secrets(call: Call) -> Envelope:
    """Return the caller's secrets: a JSON object in a string."""
    try:
        text = call.store.secrets(_user(call.dn))
    except StoreUnavailable:
        return answer(False, DATABASE_ERROR, {})
    keys = call.arguments["keys"]
    if keys and (wanted := ",".join(keys)):
        chosen = set(wanted.split(","))
        text = json.dumps({name: value for name, value in json.loads(text).items() if name in chosen})
    return answer(True, data=text)


def get_key_pair(call: Call) -> Envelope:
    """Return a public and a private key by their names."""
    user, names = _user(call.dn), (call.arguments["public_key_name"], call.arguments["private_key_name"])
    if not _permitted(call, user, "k"):
        return answer(False, f"Failed since '{user}' not authorized with 'k' in {FLAGS}")
    keys = [_credential(call, "key", name) for name in names]
    for name, key in zip(names, keys, strict=True):
        if key is None:
            return answer(False, f"Failed for '{user}' since {name} is missing on {socket.gethostname()}")
    return answer(True, data={"public_key": keys[0], "private_key": keys[1]})


def get_proxy(call: Call) -> Envelope:
    """Return the proxy of a user in a role."""
    target, role, user = call.arguments["dn"] or call.dn, call.arguments["role"], _user(call.dn)
    if not _permitted(call, user, "p"):
        return answer(False, _not_permitted(user, "proxy"))
    target = _bare(target)
    proxy = _credential(call, "proxy", f"{target}:{role}" if role else target)
    if proxy is None:
        return answer(False, f"'proxy' not found for {target}")
    return answer(True, data={"user_proxy": proxy})


def get_access_token(call: Call) -> Envelope:
    """Return the access token of a client."""
    target, user = call.arguments["client_name"] or call.dn, _user(call.dn)
    if not _permitted(call, user, "p"):
        return answer(False, _not_permitted(user, "access token"))
    key = _credential(call, "token-key", target)
    if key is not None and call.arguments["token_key"] != key:
        return answer(False, f"failed since token key is invalid for {target}")
    target = _bare(target)
    token = _credential(call, "token", target)
    if token is None:
        return answer(False, f"'token' not found for {target}")
    return answer(True, data={"user_proxy": token})


def get_token_key(call: Call) -> Envelope:
    """Return the key with which the access token of a client is asked for."""
    client, user = call.arguments["client_name"], _user(call.dn)
    if not _permitted(call, user, "t"):
        return answer(False, f"Denied since '{user}' not authorized with 't' in {FLAGS}")
    key = _credential(call, "token-key", client)
    if key is None:
        return answer(False, f"Token key is missing for '{client}'")
    return answer(True, data={"tokenKey": key})


def _permitted(call: Call, user: str, flag: str) -> bool:
    try:
        return call.store.permitted(user, flag)
    except StoreUnavailable:
        return False


def _credential(call: Call, kind: str, name: Any) -> str | None:
    try:
        return call.store.credential(kind, name)
    except StoreUnavailable:
        return None


def _not_permitted(user: str, what: str) -> str:
    return f"failed: '{user}' not in authorized users with 'p' in {FLAGS} to get {what}"


def _bare(dn: str) -> str:
    """Return a DN without the levels of proxies."""
    return re.sub(r"(/CN=\d+)+$", "", re.sub("(/CN=proxy)+", "", dn.replace("/CN=limited proxy", "")))


def _user(dn: str) -> str:
    """Return the name by which PanDA knows a user: the last CN that is a name."""
    names = [name for name in re.findall("/CN=([^/]+)", dn) if not re.fullmatch(r"\d+|proxy|nickname:.*", name)]
    return names[-1] if names else dn.partition("/CN=")[0] or dn
