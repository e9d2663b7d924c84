"""The queue source itself: where the documents come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pilot_queue_source_cric.fetch import MISSING, Fetcher, read_json_file
from pilot_queue_source_cric.queuedata import entry_of, parse_queue, storages_used
from pilot_queue_source_cric.values import Table

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline, Queue
    from pilot_queue_source_cric import CricSettings

__all__ = ["CricQueueSource"]


class CricQueueSource:
    """Knows the queues of a PanDA server's cache, of CRIC or of a file; knows none where there is neither."""

    def __init__(self, settings: CricSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._fetcher = Fetcher(context, settings.timeout, settings.tries)

    def queue(self, name: str, *, cancel: CancelToken, deadline: Deadline) -> Queue | None:
        """Return the queue, or None if it is not there (404 included).

        Raises `ConfigError` for what cannot be used, `CommunicationError` for a server that does not answer, and what
        else `Fetcher.json` raises.
        """
        cancel.raise_if_cancelled()
        data, where = self._queuedata(name, cancel, deadline)
        entry = entry_of(data, name, where) if data is not MISSING else None
        if entry is None:
            self._context.log.debug("queue %r: %s does not know it", name, where or "no server and no file")
            return None
        endpoints = self._endpoints(entry, cancel, deadline)
        settings = self._settings
        queue = parse_queue(
            entry, name, endpoints, transformation_urls=settings.transformation_urls, catalog=settings.catalog
        )
        used = {*queue.read, *queue.read_wan, *queue.write, *queue.write_wan, *queue.log}
        absent = sorted(used - set(queue.storages))
        if absent and not queue.catalog:
            self._context.log.warning("%s: no active storage is known for %s", entry.place, ", ".join(absent))
        return queue

    def _queuedata(self, name: str, cancel: CancelToken, deadline: Deadline) -> tuple[Any, str]:
        """Return the document that may hold the queue, and where it is from."""
        settings = self._settings
        if settings.file is not None:
            deadline.raise_if_passed(f"queue {name}")
            return read_json_file(settings.file), str(settings.file)
        url = settings.url
        if not url and self._context.server_url:
            url = f"{self._context.server_url}/cache/schedconfig/{{queue}}.all.json"
        if not url:
            return MISSING, ""
        url = url.replace("{queue}", quote(name, safe="", errors="surrogatepass"))
        return self._fetcher.json(url, cancel=cancel, deadline=deadline), url

    def _endpoints(self, entry: Table, cancel: CancelToken, deadline: Deadline) -> Table | None:
        """Return the storages: inline, from a file or from a URL; None if nobody has any."""
        settings = self._settings
        if entry.data.get("ddmendpoints") is not None:
            return entry.table("ddmendpoints")
        if settings.endpoints_file is not None:
            return Table.of(read_json_file(settings.endpoints_file), f"{settings.endpoints_file}: ")
        url = settings.endpoints_url
        if not url and (not self._context.server_url or not any(storages_used(entry).values())):
            return None
        url = url or f"{self._context.server_url}/cache/ddmendpoints.json"
        data = self._fetcher.json(url, cancel=cancel, deadline=deadline)
        return None if data is MISSING else Table.of(data, f"{url}: ")
