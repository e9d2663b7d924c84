"""Faults in time, company and credentials."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
from urllib.parse import urlsplit

from communicator.planting import planting
from communicator.reference import Client

from pilot_core import Cancelled, CancelToken, Deadline, Event, RequestRefused, ServerAnswer

MUTANTS = []
mutant = planting(MUTANTS)
BEFORE, HANGS, PAUSE = (
    "test_what_is_called_off_before_is_not_begun",
    "test_a_call_is_called_off_while_the_server_hangs",
    "test_a_pause_is_called_off",
)
CERTIFICATE, UNTRUSTED = "test_a_wrong_certificate_is_an_error", "test_an_untrusted_server_is_told_nothing"


@mutant("a cancellation is not heard while the server hangs", HANGS)
class DeafWhileHanging(Client):
    def exchange(self, call, body, cancel, deadline):
        cancel.raise_if_cancelled()
        return super().exchange(call, body, CancelToken(), deadline)


@mutant("a cancellation is not heard in a pause", PAUSE)
class DeafInAPause(Client):
    def pause(self, seconds, cancel):
        self.clock.wait(until=self.clock.monotonic() + seconds)


@mutant("a cancellation is not looked at before the first attempt", BEFORE)
class BeginsAnyway(Client):
    def repeat(self, attempt, again, cancel, deadline):
        try:
            return attempt()
        except Cancelled:
            raise
        except Exception:
            return super().repeat(attempt, again, cancel, deadline)

    def exchange(self, call, body, cancel, deadline):
        answer = super().exchange(call, body, CancelToken(), deadline)
        cancel.raise_if_cancelled()
        return answer


@mutant("a cancellation is an empty answer", BEFORE, HANGS)
class SwallowsCancel(Client):
    def acquire(self, request, **limits):
        try:
            return super().acquire(request, **limits)
        except Cancelled:
            return []

    def update(self, update, **limits):
        try:
            return super().update(update, **limits)
        except Cancelled:
            return ServerAnswer()


@mutant("the reason of a cancellation is lost", BEFORE, HANGS)
class NoReason(Client):
    def exchange(self, call, body, cancel, deadline):
        try:
            return super().exchange(call, body, cancel, deadline)
        except Cancelled:
            raise Cancelled("called off") from None

    def repeat(self, attempt, again, cancel, deadline):
        if cancel.cancelled:
            raise Cancelled("called off")
        return super().repeat(attempt, again, cancel, deadline)


@mutant("one more attempt after a cancellation", "test_a_call_is_called_off_between_attempts")
class OneMoreAttempt(Client):
    def repeat(self, attempt, again, cancel, deadline):
        calm = CancelToken()

        def counted():
            answer = attempt()
            cancel.raise_if_cancelled()
            return answer

        return super().repeat(counted, again, calm, deadline)

    def update(self, update, *, cancel, deadline):
        values, calm = self.update_values(update), CancelToken()
        cancel.raise_if_cancelled()

        def send():
            return self.call("update", values, calm, deadline)

        return self.answer(self.repeat(send, self.may_tell_again, cancel, deadline))


@mutant("a server that hangs is waited for beyond the deadline", "test_a_deadline_ends_the_waiting")
class WaitsTooLong(Client):
    def exchange(self, call, body, cancel, deadline):
        return super().exchange(call, body, cancel, Deadline.after(self.clock, 60.0))


@mutant("one call at a time", "test_one_that_hangs_does_not_hold_up_the_others")
class OneAtATime(Client):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.lock = threading.Lock()

    def exchange(self, call, body, cancel, deadline):
        with self.lock:
            return super().exchange(call, body, cancel, deadline)


@mutant("what one thread tells another one may send", "test_updates_at_the_same_time_do_not_mix")
class SharedValues(Client):
    def update(self, update, **limits):
        self.values = super().update_values(update)
        self.clock.wait(Event(), until=self.clock.monotonic() + 0.05)  # let the others come
        return super().update(update, **limits)

    def update_values(self, update):
        return self.values


@mutant("the answer of one thread may be another's", "test_updates_at_the_same_time_do_not_mix")
class SharedAnswer(Client):
    def answer(self, answer):
        self.got = answer
        self.clock.wait(Event(), until=self.clock.monotonic() + 0.05)
        return super().answer(self.got)


@mutant("closing waits for something", "test_it_can_be_closed_twice")
class CloseHangs(Client):
    def close(self):
        threading.Event().wait()


@mutant("closing twice crashes", "test_it_can_be_closed_twice")
class CloseOnce(Client):
    def close(self):
        del self.context


@mutant("after closing calls crash", "test_after_closing_calls_end")
class CrashesClosed(Client):
    def close(self):
        self.context = None


@mutant("connections are never closed", "test_nothing_is_left_open")
class LeavesOpen(Client):
    def connection(self):
        connection = super().connection()
        connection.close = lambda: None
        self.kept = (connection, getattr(self, "kept", None))
        return connection


@mutant("a thread stays for each call", "test_nothing_is_left_open")
class LeavesThreads(Client):
    def exchange(self, call, body, cancel, deadline):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().exchange(call, body, cancel, deadline)


@mutant("a factory that asks the server", "test_making_it_asks_nobody")
class AsksAtOnce(Client):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.is_alive(cancel=CancelToken(), deadline=Deadline.after(context.clock, 5.0))


@mutant("a server URL is taken as it is", "test_a_wrong_address_is_told")
class AnyUrl(Client):
    def __init__(self, settings, context):
        parts = urlsplit(context.server_url)
        self.context, self.clock, self.log = context, context.clock, context.log
        self.secure, self.host, self.port = parts.scheme == "https", parts.hostname, parts.port
        self.prefix = parts.path


@mutant("the path of the server's URL is dropped", "test_a_path_before_the_protocols_own_is_kept")
class NoPrefix(Client):
    def url(self, call):
        return f"/kit/{call}"


# -- credentials -----------------------------------------------------------------------------------------------------


@mutant("certificates are not verified", UNTRUSTED, CERTIFICATE)
class Unverified(Client):
    def tls(self):
        context = super().tls()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


@mutant("the name in a certificate is not compared", CERTIFICATE)
class AnyName(Client):
    def tls(self):
        context = super().tls()
        context.check_hostname = False
        return context


@mutant("a certificate that cannot be verified is tried without", UNTRUSTED)
class SecondThoughts(Client):
    def exchange(self, call, body, cancel, deadline):
        try:
            return super().exchange(call, body, cancel, deadline)
        except Exception as error:
            if "certificate" not in str(error):
                raise
            self.tls = ssl._create_unverified_context
            return super().exchange(call, body, cancel, deadline)


@mutant("the credential is in the address", "test_the_credential_is_sent_and_not_in_an_address")
class TokenInUrl(Client):
    def url(self, call):
        from urllib.parse import quote

        source = self.context.credential
        return f"{super().url(call)}?token={quote(source.secrets()[0], safe='')}" if source else super().url(call)


@mutant("the credential is not sent", "test_the_credential_is_sent_and_not_in_an_address")
class NoToken(Client):
    def headers(self, cancel, deadline):
        return {name: value for name, value in super().headers(cancel, deadline).items() if name != "Authorization"}


@mutant("the server's text is passed on as it is", "test_a_server_that_repeats_the_credential_tells_nobody")
class PassesOn(Client):
    def call(self, call, values, cancel, deadline):
        status, headers, body = self.exchange(call, self.encode(values), cancel, deadline)
        if status == 400:
            raise RequestRefused(f"the server says: {body.decode().strip()}")
        if status != 200:
            raise self.refusal(status, headers)
        answer = self.decode(body)
        if not answer["ok"]:
            raise self.not_done(answer)
        return answer


@mutant("requests are logged with their headers", "test_a_field_of_an_update_arrives")
class LogsHeaders(Client):
    def headers(self, cancel, deadline):
        headers = super().headers(cancel, deadline)
        self.log.debug("sending %s", headers)
        return headers


@mutant("the credential shows in the repr", "test_it_does_not_show_in_a_repr")
class ReprShows(Client):
    token = ""

    def headers(self, cancel, deadline):
        headers = super().headers(cancel, deadline)
        self.token = headers.get("Authorization", "")
        return headers

    def __repr__(self):
        return f"Client({self.host}, {self.token})"


@mutant("a credential goes over plain http", "test_no_credential_goes_in_the_clear")
class InTheClear(Client):
    def __init__(self, settings, context):
        from dataclasses import replace

        super().__init__(settings, replace(context, credential=None))
        self.context = context


@mutant("the environment's proxy is used", "test_the_environment_has_no_say")
class EnvironmentProxy(Client):
    def connection(self):
        proxy = os.environ.get("https_proxy")
        if not proxy:
            return super().connection()
        parts = urlsplit(proxy)
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=self.tls())
        connection.set_tunnel(self.host, self.port)
        return connection


@mutant("the environment's authorities are used", "test_the_environment_has_no_say")
class EnvironmentBundle(Client):
    def tls(self):
        return ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE") or self.context.ca_file)


@mutant("a .netrc takes the place of the credential", "test_the_environment_has_no_say")
class Netrc(Client):
    def headers(self, cancel, deadline):
        import base64
        import netrc

        headers = super().headers(cancel, deadline)
        try:
            login, _, password = netrc.netrc().authenticators(self.host) or ("", "", "")
        except OSError:
            return headers
        word = base64.b64encode(f"{login}:{password}".encode()).decode()
        return {**headers, "Authorization": f"Basic {word}"}
