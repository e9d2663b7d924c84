"""The methods of PanDA's REST API v1 that a pilot needs, with the parameters they take: our own table.

Names, types and defaults are those of panda-server 1.0.4 (`api/v1/*_api.py`), which refuses by them. A type is one of
`int`, `float`, `str`, `bool`, `list`, `dict`, `any` (not checked), `list[int]`, `list[str]`, or several joined by `|`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["METHODS", "REQUIRED", "Method", "Parameter"]


class _Required:
    """The default of a parameter that has none."""


REQUIRED = _Required()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method."""

    name: str
    types: tuple[str, ...]
    default: Any = REQUIRED


@dataclass(frozen=True)
class Method:
    """One method: how it may be called, and with what."""

    module: str
    name: str
    http: str
    """GET or POST."""
    parameters: tuple[Parameter, ...]
    secure: bool = True
    """Whether it needs a certificate or a token."""
    production: bool = False
    """Whether it needs a production role."""

    @property
    def python_name(self) -> str:
        """The function's full name in PanDA's server, which shows in some messages."""
        module = {"creds": "credential_management"}.get(self.module, self.module)
        return f"pandaserver.api.v1.{module}_api.{self.name}"


_DEFAULTS: Mapping[str, Any] = {"None": None, '""': "", "1": 1, "60": 60, "False": False, "[]": []}


def _method(http: str, path: str, parameters: str, *, secure: bool = True, production: bool = False) -> Method:
    module, _, name = path.partition("/")
    return Method(module, name, http, tuple(map(_parameter, parameters.split())), secure, production)


def _parameter(text: str) -> Parameter:
    declared, has_default, default = text.partition("=")
    name, _, types = declared.partition(":")
    return Parameter(name, tuple(types.split("|")), _DEFAULTS[default] if has_default else REQUIRED)


_ACQUIRE = """
site_name:str timeout:int=60 memory:int=None disk_space:int=None prod_source_label:str=None node:str=None
computing_element:str=None prod_user_id:str=None get_proxy_key:str=None task_id:int=None n_jobs:int=1
background:bool=None resource_type:str=None harvester_id:str=None worker_id:int=None scheduler_id:str=None
job_type:str=None via_topic:bool=None remaining_time:any=None target_architecture:dict|str=None
"""

_UPDATE = """
job_id:int job_status:str job_output_report:str="" node:str=None cpu_consumption_time:int=None
cpu_consumption_unit:str=None scheduler_id:str=None pilot_id:str=None site_name:str=None pilot_log:str=""
meta_data:str="" cpu_conversion_factor:float|int=None trans_exit_code:int=None pilot_error_code:int=None
pilot_error_diag:str=None exe_error_code:int=None exe_error_diag:str=None pilot_timing:str=None start_time:str=None
end_time:str=None n_events:int=None n_input_files:int=None batch_id:str=None attempt_nr:int=None job_metrics:str=None
stdout:str="" job_sub_status:str=None core_count:int=None max_rss:int|float=None max_vmem:int|float=None
max_swap:int|float=None max_pss:int|float=None avg_rss:int|float=None avg_vmem:int|float=None avg_swap:int|float=None
avg_pss:int|float=None tot_rchar:int|float=None tot_wchar:int|float=None tot_rbytes:int|float=None
tot_wbytes:int|float=None rate_rchar:int|float=None rate_wchar:int|float=None rate_rbytes:int|float=None
rate_wbytes:int|float=None corrupted_files:str=None mean_core_count:int=None cpu_architecture_level:str=None
grid:str=None source_site:str=None destination_site:str=None timeout:int=60
"""

_NODE = """
site:str host_name:str cpu_model:str panda_queue:str=None n_logical_cpus:int=None n_sockets:int=None
cores_per_socket:int=None threads_per_core:int=None cpu_architecture:str=None cpu_architecture_level:str=None
clock_speed:float=None total_memory:int=None total_local_disk:int=None timeout:int=60
"""

_GPU = """
site:str host_name:str vendor:str model:str count:int vram:int=None architecture:str=None framework:str=None
framework_version:str=None driver_version:str=None timeout:int=60
"""

_WORKER = "worker_id:any harvester_id:any status:any timeout:any=60 node_id:any=None"
_KILL = "job_ids:list[int] code:int=None use_email_as_id:bool=False kill_options:list[str]=[]"
_KEYS = "public_key_name:str private_key_name:str"

METHODS: Mapping[tuple[str, str], Method] = MappingProxyType(
    {
        (method.module, method.name): method
        for method in (
            _method("POST", "pilot/acquire_jobs", _ACQUIRE),
            _method("GET", "pilot/get_job_status", "job_ids:list[int] timeout:int=60"),
            _method("POST", "pilot/update_job", _UPDATE, production=True),
            _method("POST", "pilot/update_jobs_bulk", "job_list:list harvester_id:str=None", production=True),
            _method("POST", "pilot/update_worker_status", _WORKER, production=True),
            _method("POST", "pilot/update_worker_node", _NODE, production=True),
            _method("POST", "pilot/update_worker_node_gpu", _GPU, production=True),
            _method("GET", "job/get_status", "job_ids:list[int] timeout:int=60"),
            _method("POST", "job/kill", _KILL),
            _method("POST", "job/set_command", "job_id:int command:str", production=True),
            _method("POST", "job/set_debug_mode", "job_id:int mode:bool", production=True),
            _method("POST", "creds/set_user_secrets", "key:str=None value:str=None"),
            _method("GET", "creds/get_user_secrets", "keys:list[str]=None"),
            _method("GET", "creds/get_key_pair", _KEYS),
            _method("GET", "creds/get_proxy", "role:str=None dn:str=None"),
            _method("GET", "creds/get_access_token", "client_name:str token_key:str=None"),
            _method("GET", "creds/get_token_key", "client_name:str"),
            _method("GET", "metaconfig/get_resource_types", ""),
            _method("GET", "system/is_alive", "", secure=False),
        )
    }
)
"""All methods by module and name. The other methods of PanDA's server are forbidden here, like any it does not have."""
