"""The server on real TLS sockets: who is let in, and what Apache would do."""

import http.client
import json
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from pilot_devserver.certificates import Authority, make_proxy
from pilot_devserver.devserver import DevServer
from pilot_devserver.store_jobs import FileSpec, JobSpec

from pilot_core import ClientCertificate, HandledError, SystemClock

NO_JOBS = {"success": False, "message": "No jobs in PanDA", "data": None}
NO_ROLE = {"success": False, "message": "no production/pilot role in VOMS FQANs or non pilot owner", "data": None}
NOT_SECURE = {"success": False, "message": "SSL secure connection is required", "data": None}


def save(credential, tmp_path):
    file = tmp_path / f"{credential.certificate.serial_number}.pem"
    file.write_bytes(credential.bundle_pem)
    return ClientCertificate(cert_file=file, key_file=file)


# -- certificates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pilot_certificate", "pilot_proxy"])
def test_a_pilots_certificate_or_proxy_may_ask_for_jobs(server, connect, kind):
    assert connect(getattr(server, kind)).acquire() == NO_JOBS


def test_a_proxy_of_a_proxy_is_still_the_pilot(server, connect, tmp_path):
    proxy = make_proxy(make_proxy(server.state.pilot(), server.clock), server.clock)
    assert connect(save(proxy, tmp_path)).acquire() == NO_JOBS


def test_a_limited_proxy_is_judged_by_its_dn_text(server, connect, tmp_path):
    pilot = server.state.pilot()
    old_kind = make_proxy(pilot, server.clock, common_name="limited proxy")
    assert connect(save(old_kind, tmp_path)).acquire() == NOT_SECURE
    assert connect(save(make_proxy(pilot, server.clock, limited=True), tmp_path)).acquire() == NO_JOBS


def test_a_certificate_without_role_gets_no_production_jobs(server, connect):
    assert connect(server.user_certificate).acquire() == NO_ROLE


def test_nobody_is_not_secure_enough(server, connect):
    assert connect().acquire() == NOT_SECURE


@pytest.mark.parametrize("whose", ["foreign", "expired"])
def test_a_bad_client_certificate_ends_the_handshake(server, connect, tmp_path, whose):
    authority = Authority.create(server.clock) if whose == "foreign" else server.state.authority()
    certificate = save(authority.client("pilot", days=-1 if whose == "expired" else 1), tmp_path)
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        connect(certificate).acquire()


def test_a_server_certificate_is_no_proxy_issuer_for_others(server, connect, tmp_path):
    """A proxy that names the pilot but is signed by the user's key."""
    user = server.state.authority().client("user")
    forged = make_proxy(user, server.clock)
    assert connect(save(forged, tmp_path)).acquire() == NO_ROLE


# -- tokens --------------------------------------------------------------------------------------------------------


def test_a_token_with_the_production_role_may_ask_for_jobs(server, connect):
    for origin in ("wlcg.production", "wlcg:production"):
        assert connect().acquire(authorization=f"Bearer {server.token()}", origin=origin) == NO_JOBS


def test_the_role_pilot_is_not_enough(server, connect):
    assert connect().acquire(authorization=f"Bearer {server.token()}", origin="wlcg.pilot") == NO_ROLE


@pytest.mark.parametrize(
    ("options", "origin", "text"),
    [
        ({"seconds": -1}, "wlcg.production", "Invalid token. Signature has expired"),
        ({}, "other.production", "Unknown vo : other"),
        ({"groups": []}, "wlcg.production", "Not a member of the wlcg/production group"),
        ({}, None, "Token decode failure. 'NoneType' object has no attribute 'replace' Traceback (most recent call"),
    ],
)
def test_a_refused_token_is_answered_403_with_the_reason(server, connect, options, origin, text):
    headers = {"origin": origin} if origin else {}
    status, body = connect().acquire(authorization=f"Bearer {server.token(**options)}", **headers)
    assert status == 403
    assert body.startswith(f"ERROR : Token authentication failed. {text}")


def test_an_authorization_without_scheme_is_nobody(connect):
    assert connect().acquire(authorization="abc", origin="wlcg.production") == NOT_SECURE


def test_over_plain_http_no_credential_counts(server, connect):
    plain = connect(url=server.plain_url)
    assert plain.acquire(authorization=f"Bearer {server.token()}", origin="wlcg.production") == NOT_SECURE
    response, _ = plain.ask("GET", "/api/v1/system/is_alive")
    assert response.status == 200


# -- what Apache does ------------------------------------------------------------------------------------------------


def test_a_chunked_request_is_answered_411_and_the_connection_ends(pilot):
    pilot.connection.request("POST", "/api/v1/pilot/acquire_jobs", iter([b"{}"]), encode_chunked=True)
    response = pilot.connection.getresponse()
    assert (response.status, response.headers["Content-Type"]) == (411, "text/html; charset=iso-8859-1")
    assert response.headers["Connection"] == "close"
    assert b"requires a valid Content-length" in response.read()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_are_forbidden(pilot, method):
    response, body = pilot.ask(method, "/api/v1/pilot/acquire_jobs", b"{}")
    assert (response.status, response.headers["Content-Length"]) == (403, str(len(body)))
    assert b"You don't have permission" in body


def test_double_slashes_are_one(pilot):
    assert pilot.post("/api/v1//pilot/acquire_jobs", {"site_name": "Q1"}) == NO_JOBS


def test_answers_are_chunked_plain_text_and_connections_stay(pilot):
    pilot.acquire()
    before = pilot.connection.sock
    response, _ = pilot.ask("GET", "/api/v1/system/is_alive", headers={"Accept": "application/json"})
    assert response.headers["Content-Type"] == "text/plain"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.headers["Content-Encoding"] is None
    assert response.headers["Server"] == "pilot-devserver"
    assert pilot.connection.sock is before


def test_a_server_error_ends_the_connection(pilot):
    response, body = pilot.ask("POST", "/api/v1/pilot/acquire_jobs", "{", {"Content-Type": "application/json"})
    assert (response.status, response.reason, response.headers["Connection"]) == (500, "INTERNAL SERVER ERROR", "close")
    assert body.startswith(b"ERROR : received invalid JSON : ")


def raw(server, text):
    """Send bytes over TLS and return all that comes back until the server hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.ca_file)
    certificate = server.pilot_certificate
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    address = server.url.rpartition(":")
    plain = socket.create_connection(("127.0.0.1", int(address[2])))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
        tls.sendall(text)
        return b"".join(iter(lambda: tls.recv(65536), b""))


def test_http_1_0_gets_an_answer_without_chunks(server):
    answer = raw(server, b"GET /api/v1/system/is_alive HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
    assert b"chunked" not in head.lower()
    assert body == b"{'success': True, 'message': '', 'data': None}"


def test_expect_100_continue_is_answered_before_the_body(server):
    head = (
        b"POST /api/v1/pilot/acquire_jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 19\r\n\r\n"
    )
    answer = raw(server, head + b'{"site_name": "Q1"}')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"No jobs in PanDA" in answer


def test_a_body_of_many_megabytes_arrives(server, pilot):
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x")])
    pilot.acquire()
    metadata = "x" * 30_000_000
    answer = pilot.post("/api/v1/pilot/update_job", {"job_id": job, "job_status": "running", "meta_data": metadata})
    assert answer == {"success": True, "message": "", "data": {"StatusCode": 0, "command": "NULL"}}
    assert server.store.get(job).metadata == metadata


# -- pages -----------------------------------------------------------------------------------------------------------


def test_queuedata_and_storages_are_served_on_both_ports(server, connect):
    for url in (server.url, server.plain_url):
        client = connect(url=url)
        response, body = client.ask("GET", "/cache/schedconfig/Q1.all.json")
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
        queue = json.loads(body)
        assert (queue["nickname"], queue["status"], queue["state"]) == ("Q1", "online", "ACTIVE")
        _, body = client.ask("GET", "/cache/ddmendpoints.json")
        assert set(json.loads(body)) == {"Q1_DATADISK", "Q2_DATADISK"}
        assert queue["astorages"]["write_lan"] == ["Q1_DATADISK"]


@pytest.mark.parametrize(
    "path", ["/nope", "/cache/schedconfig/Q9.all.json", "/trf/none.py", "/trf/../ca.key", "/trf/%2e%2e/ca.key", "/trf/"]
)
def test_what_is_not_there_is_answered_404(connect, path):
    response, body = connect().ask("GET", path)
    assert response.status == 404
    assert b"was not found on this server" in body


def test_transformations_are_served_from_their_directory_only(server, connect):
    (server.state.transformations / "job.py").write_text("print()")
    (server.state.transformations / "out.py").symlink_to(server.state.ca_file)
    assert connect().ask("GET", "/trf/job.py")[1] == b"print()"
    assert connect().ask("GET", "/trf/out.py")[0].status == 404


def test_the_page_for_people_shows_jobs_and_quotes_what_they_are_called(server, connect):
    server.store.submit([JobSpec(queue="Q1", transformation="x", name="<script>")])
    response, body = connect().ask("GET", "/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"1 activated" in body
    assert b"&lt;script&gt;" in body
    assert b"<script>" not in body


def test_protocols_are_asked_in_the_order_of_their_priority(state_dir, one_shot):
    with DevServer(state_dir) as server:
        assert one_shot(server, "GET", "/server/panda/isAlive")[1] == b"alive=yes"
    with DevServer(state_dir, protocols=["panda"]) as server:
        response, body = one_shot(server, "GET", "/server/panda/isAlive")
    assert (response.status, body) == (403, b"ERROR : method isAlive is forbidden")


# -- together --------------------------------------------------------------------------------------------------------


def test_two_pilots_never_get_the_same_job(server, connect):
    ids = server.store.submit([JobSpec(queue="Q1", transformation="x") for _ in range(30)])
    barrier = threading.Barrier(3)

    def take(client):
        barrier.wait()
        taken = []
        while (answer := client.acquire())["success"]:
            taken += [job["PandaID"] for job in answer["data"]["jobs"]]
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(take, [connect(server.pilot_certificate) for _ in range(3)]))
    assert sorted(chain(*taken)) == ids


def test_the_server_decides_a_job_by_itself_soon_after_its_final_update(server, pilot):
    log = FileSpec(lfn="log.tgz", kind="log")
    [job] = server.store.submit([JobSpec(queue="Q1", transformation="x", files=(log,))])
    pilot.acquire()
    changed = server.store.next_change()
    report = json.dumps({"log.tgz": {"guid": "g", "fsize": 1, "adler32": "00000001"}})
    pilot.post(
        "/api/v1/pilot/update_job",
        {"job_id": job, "job_status": "finished", "attempt_nr": 1, "job_output_report": report},
    )
    while server.store.counts() != {"finished": 1}:
        server.clock.wait(changed)
        changed = server.store.next_change()


def test_the_server_ends_while_clients_are_connected(state_dir):
    with DevServer(state_dir) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(server.ca_file)
        connection = http.client.HTTPSConnection(server.url.removeprefix("https://"), context=context)
        connection.request("GET", "/")
        connection.getresponse().read()
    assert server.state.running() is None
    connection.close()


def test_a_second_server_in_the_same_directory_is_refused(server):
    with pytest.raises(HandledError, match="another server runs with the state directory"):
        DevServer(server.state.path).__enter__()
    assert server.state.running() is not None


def test_a_port_that_is_taken_is_told(state_dir, server, tmp_path):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(HandledError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .*choose another with --port"):
        DevServer(tmp_path / "other", port=port).__enter__()


def test_an_ipv6_address_is_served_under_its_own_name_or_refused_in_one_line(state_dir, one_shot):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        with pytest.raises(HandledError, match="cannot listen on ::1"):
            DevServer(state_dir, host="::1").__enter__()
        return
    with DevServer(state_dir, host="::1") as server:
        assert server.url.startswith("https://[::1]:")
        assert one_shot(server, "GET", "/")[0].status == 200


def test_another_host_name_gets_into_the_certificate(prepared, tmp_path):
    from cryptography import x509
    from pilot_devserver.statedir import StateDir

    state = StateDir(tmp_path / "named", SystemClock())
    state.prepare()
    state.prepare(["dev.example.org"])
    names = x509.load_pem_x509_certificate(state.server_cert.read_bytes()).extensions
    names = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert names == ["localhost", "dev.example.org"]
