"""The other methods: states of jobs, workers, credentials, secrets, what users do to jobs."""

from __future__ import annotations

import io
import json
import pickle
import re
import socket
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda_legacy.server.answers import (
    FAILED,
    INVALID,
    MISSING_KEY,
    NO_PERMISSION,
    PROXY_ERROR,
    SUCCESS,
    Text,
    encode,
    fields,
)
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda_legacy.server.calls import Call
    from pilot_core.api.server import JobRecord, JobStore

__all__ = [
    "check_job_status",
    "get_access_token",
    "get_key_pair",
    "get_proxy",
    "get_resource_types",
    "get_status",
    "get_token_key",
    "get_user_secrets",
    "is_alive",
    "kill_jobs",
    "send_command_to_job",
    "set_debug_mode",
    "set_user_secret",
    "update_worker_pilot_status",
]

FLAGS = "ATLAS_PANDAMETA.USERS.GRIDPREF"
NO_TLS = "SSL secure connection is required"
NO_DN = "SSL_CLIENT_S_DN is missing in HTTP request"
NO_PROXY_DN = "Cannot extract DN from proxy. not HTTPS?"
WORKER_STATES = ("started", "finished")


def is_alive(call: Call) -> Text:
    """Say that the server answers."""
    del call
    return Text("alive=yes")


def get_status(call: Call) -> Text:
    """Tell states and attempts of jobs, joined by plus signs."""
    int(call.arguments["timeout"])
    states, attempts = [], []
    for word in call.arguments["ids"].split():
        try:
            job = _job(call.store, word)
        except StoreUnavailable:
            states.append("unknown")
            attempts.append("NULL")
            continue
        states.append(job.status if job else "notfound")
        attempts.append(str(job.attempt) if job else "0")
    return encode({**fields(SUCCESS), "status": "+".join(states), "attemptNr": "+".join(attempts)}, as_json=False)


def _job(store: JobStore, word: str) -> JobRecord | None:
    try:
        return store.get(int(word))
    except ValueError:
        return None


def check_job_status(call: Call) -> Text:
    """Tell states of jobs and the commands that wait for their pilots; always JSON."""
    int(call.arguments["timeout"])
    words = call.arguments["ids"].split(",") if isinstance(call.arguments["ids"], str) else []
    return encode({**fields(SUCCESS), "data": [_command(call.store, word) for word in words]}, as_json=True)


def _command(store: JobStore, word: str) -> dict[str, Any]:
    try:
        job = store.get(int(word))
    except (ValueError, StoreUnavailable):
        return {"command": None, "status": None}
    if job is None:
        return {"command": "tobekilled", "status": "unknown"}
    return {"command": job.command or None, "status": job.status}


def update_worker_pilot_status(call: Call) -> Text:
    """Keep what a pilot says of itself; what is wrong is told in plain text."""
    given = call.arguments
    if call.dn is None:
        return Text("failed to retrieve DN")
    if not call.is_pilot():
        return Text("production or pilot role is required")
    if given["status"] not in WORKER_STATES:
        return Text(f"Invalid worker state. The worker state has to be in {WORKER_STATES}")
    values = {"status": given["status"], "node_id": given["node_id"]}
    try:
        done = call.store.worker_status(str(given["harvesterID"]), str(given["workerID"]), values)
    except StoreUnavailable:
        done = False
    return encode(fields(SUCCESS if done else FAILED), as_json=call.accepts_json)


def get_resource_types(call: Call) -> Text:
    """Tell the definitions of `SCORE`, `MCORE` ...; nobody is refused."""
    try:
        types = [dict(kind) for kind in call.store.resource_types()]
    except StoreUnavailable:
        types = []
    return encode({**fields(SUCCESS), "Returns": 0, "ResourceTypes": types}, as_json=call.accepts_json)


# -- credentials and secrets -------------------------------------------------------------------------------------------


def get_proxy(call: Call) -> Text:
    """Return the proxy of a user in a role; always JSON."""
    target, role = call.arguments["dn"], call.arguments["role"]
    if not (refusal := _refusal(call, "p", "proxy")):
        target = _bare(target if target is not None else call.dn or "")
        return _handed_out(call, "proxy", f"{target}:{role}" if role else target, target)
    return refusal


def get_access_token(call: Call) -> Text:
    """Return the access token of a client; always JSON."""
    client = call.arguments["client_name"]
    if refusal := _refusal(call, "p", "access token"):
        return refusal
    key = _credential(call, "token-key", client)
    if key is not None and call.arguments["token_key"] != key:
        return encode(fields(INVALID, dialog=f"failed since token key is invalid for {client}"), as_json=True)
    return _handed_out(call, "token", _bare(client), _bare(client))


def _refusal(call: Call, flag: str, what: str) -> Text | None:
    if call.dn is None:
        return encode(fields(NO_PERMISSION, dialog=NO_PROXY_DN), as_json=True)
    user = _user(call.dn)
    if _permitted(call, user, flag):
        return None
    text = f"failed since '{user}' not in the authorized user list who have '{flag}' in {FLAGS} to get {what}"
    return encode(fields(NO_PERMISSION, dialog=text), as_json=True)


def _handed_out(call: Call, kind: str, name: str, target: str) -> Text:
    value = _credential(call, kind, name)
    if value is None:
        return encode(fields(PROXY_ERROR, dialog=f"{kind} not found for {target}"), as_json=True)
    return encode({**fields(SUCCESS, dialog=""), "userProxy": value}, as_json=True)


def get_token_key(call: Call) -> Text:
    """Return the key with which the access token of a client is asked for."""
    client, as_json = call.arguments["client_name"], call.accepts_json
    if call.dn is None:
        text = "failed since DN cannot be extracted. non-HTTPS?"
        return encode(fields(NO_PERMISSION, dialog=text), as_json=as_json)
    user = _user(call.dn)
    if not _permitted(call, user, "t"):
        text = f"denied since '{user}' not authorized with 't' in {FLAGS}"
        return encode(fields(NO_PERMISSION, dialog=text), as_json=as_json)
    key = _credential(call, "token-key", client)
    if key is None:
        return encode(fields(MISSING_KEY, dialog=f"token key is missing for '{client}'"), as_json=as_json)
    return encode({**fields(SUCCESS), "tokenKey": key}, as_json=as_json)


def get_key_pair(call: Call) -> Text:
    """Return a public and a private key by their names."""
    as_json, names = call.accepts_json, (call.arguments["publicKeyName"], call.arguments["privateKeyName"])
    if call.dn is None:
        return encode(fields(NO_PERMISSION, dialog=NO_PROXY_DN), as_json=as_json)
    user, place = _user(call.dn), f"getKeyPair {names[0]}/{names[1]} json={as_json}: "
    if not _permitted(call, user, "k"):
        text = f"{place}failed since '{user}' not authorized with 'k' in {FLAGS}"
        return encode(fields(NO_PERMISSION, dialog=text), as_json=as_json)
    keys = [_credential(call, "key", name) for name in names]
    for name, key in zip(names, keys, strict=True):
        if key is None:
            text = f"{place}failed for '{user}' since {name} is missing on {socket.gethostname()}"
            return encode(fields(MISSING_KEY, dialog=text), as_json=as_json)
    return encode({**fields(SUCCESS), "publicKey": keys[0], "privateKey": keys[1]}, as_json=as_json)


def get_user_secrets(call: Call) -> Text:
    """Return the caller's secrets: as JSON, or as JSON in a string."""
    if call.dn is None:
        return Text(json.dumps((False, NO_DN)))
    try:
        secrets = json.loads(call.store.secrets(call.dn))
    except StoreUnavailable:
        return Text(json.dumps((False, "database error")))
    if call.arguments["keys"]:
        chosen = set(call.arguments["keys"].split(","))
        secrets = {name: value for name, value in secrets.items() if name in chosen}
    as_json = call.arguments["get_json"] == "True"
    return Text(json.dumps((True, secrets if as_json else json.dumps(secrets))))


def set_user_secret(call: Call) -> Text:
    """Keep a secret of the caller."""
    if call.dn is None:
        return Text(json.dumps((False, NO_DN)))
    try:
        call.store.set_secret(call.dn, call.arguments["key"], call.arguments["value"])
    except StoreUnavailable:
        return Text(json.dumps((False, "database error")))
    return Text(json.dumps((True, "OK")))


def _permitted(call: Call, user: str, flag: str) -> bool:
    try:
        return call.store.permitted(user, flag)
    except StoreUnavailable:
        return False


def _credential(call: Call, kind: str, name: str) -> str | None:
    try:
        return call.store.credential(kind, name)
    except StoreUnavailable:
        return None


def _bare(dn: str) -> str:
    return re.sub(r"(/CN=\d+)+$", "", re.sub("(/CN=proxy)+", "", dn.replace("/CN=limited proxy", "")))


def _user(dn: str) -> str:
    names = [name for name in re.findall("/CN=([^/]+)", dn) if not re.fullmatch(r"\d+|proxy|nickname:.*", name)]
    return names[-1] if names else dn.partition("/CN=")[0] or dn


# -- what users do to jobs ---------------------------------------------------------------------------------------------


def set_debug_mode(call: Call) -> Text:
    """Switch a job's debug mode; the answer is text."""
    if call.dn is None:
        return Text(f"ERROR: {NO_TLS}")
    if not call.production:
        return Text("Permission denied. Not the owner or production manager")
    try:
        return Text(call.store.set_debug(int(call.arguments["pandaID"]), call.arguments["modeOn"] == "True"))
    except StoreUnavailable:
        return Text("")


def send_command_to_job(call: Call) -> Text:
    """Set the command that a job's next updates are answered with."""
    if call.dn is None:
        return Text(json.dumps((False, NO_TLS)))
    if not call.production:
        return Text(json.dumps((False, "production or pilot role required")))
    try:
        return Text(json.dumps(call.store.set_command(int(call.arguments["panda_id"]), call.arguments["com"])))
    except StoreUnavailable:
        return Text(json.dumps((False, "database error")))


class _Numbers(pickle.Unpickler):
    """Reads pickled numbers and lists, nothing that has a class."""

    def find_class(self, module: str, name: str) -> Any:
        del name
        raise pickle.UnpicklingError(f"Attempting to import disallowed module {module}")


def kill_jobs(call: Call) -> Text:
    """Have jobs killed. Their ids come as a pickled list, and so does the answer."""
    if call.dn is None:
        return Text("False")
    ids = _Numbers(io.BytesIO(str(call.arguments["ids"]).encode())).load()
    code = call.arguments["code"]
    killed = [_kill(call, job_id, code) for job_id in (ids if isinstance(ids, list) else [ids])]
    return Text(pickle.dumps(killed, protocol=0).decode())


def _kill(call: Call, job_id: Any, code: Any) -> bool:
    try:
        number = None if code is None else int(code)
        return call.store.kill(int(job_id), user=call.dn or "", production=call.production, code=number)
    except (TypeError, ValueError, StoreUnavailable):
        return False
