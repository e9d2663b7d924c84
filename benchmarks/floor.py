"""The least that a pilot written in Python has to do for one job, and nothing else: the floor of the benchmark.

Imports, three TLS calls over one connection (a certificate for authentication), four records made durable, one fork of
`/bin/true`.
Called as `floor.py URL CA_FILE CERT_FILE QUEUE`; the job it takes is reported as finished.
"""

import json
import os
import subprocess
import sys
import tempfile

import requests


def main() -> None:
    url, ca_file, certificate, queue = sys.argv[1:]
    session = requests.Session()
    session.trust_env = False
    session.verify, session.cert = ca_file, certificate
    session.headers.update({"Content-Type": "application/json", "Accept": "application/json"})

    def call(method: str, **fields: object) -> dict:
        answer = session.post(f"{url}/api/v1/pilot/{method}", data=json.dumps(fields), timeout=60).json()
        assert answer["success"], answer
        return answer["data"]

    with tempfile.TemporaryFile() as journal:

        def record(step: str) -> None:
            os.write(journal.fileno(), step.encode())
            os.fdatasync(journal.fileno())

        job = call("acquire_jobs", site_name=queue, prod_source_label="managed")["jobs"][0]
        record("acquired")
        known = {"job_id": job["PandaID"], "attempt_nr": job["attemptNr"]}
        call("update_job", job_status="running", **known)
        record("starting")
        code = subprocess.call(["/bin/true"])
        record("ended")
        record("ready")
        call("update_job", job_status="finished", trans_exit_code=code, **known)


main()
