"""The methods of PanDA's form API that a pilot needs, with their parameters and defaults: our own table.

They are those of panda-server 0.8.1 (`jobdispatcher/JobDispatcher.py`, `userinterface/UserIF.py`). Nothing is typed: a
form carries text, and JSON whatever was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["MISSING", "OWNERS", "SIGNATURES"]

MISSING = object()
"""The default of a parameter that has none."""

_DISPATCHER, _USERS = "pandaserver.jobdispatcher.JobDispatcher", "pandaserver.userinterface.UserIF"
_UTILITIES = "pandaserver.taskbuffer.Utils"


def _parameters(required: str, optional: str = "", defaults: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    names = dict.fromkeys(required.split(), MISSING) | dict.fromkeys(optional.split())
    return MappingProxyType({**names, **(defaults or {})})


_GET_JOB = """
token cpu mem diskSpace prodSourceLabel node computingElement AtlasRelease prodUserID getProxyKey countryGroup
workingGroup allowOtherCountry taskID nJobs background resourceType harvester_id worker_id schedulerID jobType viaTopic
remaining_time
"""

_UPDATE_JOB = """
token transExitCode pilotErrorCode pilotErrorDiag timestamp node workdir cpuConsumptionTime cpuConsumptionUnit
remainingSpace schedulerID pilotID siteName messageLevel cpuConversionFactor exeErrorCode exeErrorDiag pilotTiming
computingElement startTime endTime nEvents nInputFiles batchID attemptNr jobMetrics jobSubStatus coreCount maxRSS
maxVMEM maxSWAP maxPSS avgRSS avgVMEM avgSWAP avgPSS totRCHAR totWCHAR totRBYTES totWBYTES rateRCHAR rateWCHAR
rateRBYTES rateWBYTES corruptedFiles meanCoreCount cpu_architecture_level grid source_site destination_site
"""

_TEXTS = {"xml": "", "pilotLog": "", "metaData": "", "stdout": ""}

SIGNATURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "isAlive": _parameters(""),
        "getJob": _parameters("siteName", _GET_JOB, {"timeout": 60}),
        "updateJob": _parameters("jobId state", _UPDATE_JOB, {"timeout": 60, **_TEXTS}),
        "updateJobsInBulk": _parameters("jobList", "harvester_id"),
        "getStatus": _parameters("ids", "", {"timeout": 60}),
        "checkJobStatus": _parameters("ids", "", {"timeout": 60}),
        "updateWorkerPilotStatus": _parameters("site workerID harvesterID status", "node_id", {"timeout": 60}),
        "getResourceTypes": _parameters("", "", {"timeout": 30}),
        "getProxy": _parameters("", "role dn"),
        "get_access_token": _parameters("client_name", "token_key"),
        "get_token_key": _parameters("client_name"),
        "getKeyPair": _parameters("publicKeyName privateKeyName"),
        "get_user_secrets": _parameters("", "keys get_json"),
        "set_user_secret": _parameters("", "key value"),
        "setDebugMode": _parameters("pandaID modeOn"),
        "send_command_to_job": _parameters("panda_id com"),
        "killJobs": _parameters("ids", "code useMailAsID killOpts"),
    }
)

OWNERS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(SIGNATURES, _DISPATCHER),
        **dict.fromkeys(("get_user_secrets", "set_user_secret", "setDebugMode", "send_command_to_job"), _USERS),
        "killJobs": _USERS,
        "isAlive": _UTILITIES,
    }
)
"""The module of each method in PanDA's server, which shows in some messages."""
