"""Faults on bad days: repetition, its end, its errors."""

from __future__ import annotations

import threading
from contextlib import suppress

from communicator.planting import planting
from communicator.reference import Client, Failed

from pilot_core import AuthError, CommunicationError, Deadline, JobStatus, RequestRefused

MUTANTS = []
mutant = planting(MUTANTS)
LOST, ANSWER, REPEATED = (
    "test_a_lost_job_is_not_asked_for_again",
    "test_what_is_no_answer_is_not_no_job",
    "test_an_update_is_repeated",
)
REFUSED, LASTS, ENDS = (
    "test_a_refused_connection_is_tried_again",
    "test_patience_lasts",
    "test_patience_ends_with_the_deadline",
)
AUTH = "test_a_refused_credential_is_an_auth_error"


@mutant("a request for jobs is repeated whatever happened to it", LOST, ANSWER)
class AsksAgain(Client):
    def may_ask_again(self, failure):
        return True


@mutant("a request for jobs is repeated after an error of the server", ANSWER)
class AsksAgainAfterErrors(Client):
    def refusal(self, status, headers):
        error = super().refusal(status, headers)
        return Failed("failed", sent=False) if status == 500 else error


@mutant("a reset connection counts as one that there never was", LOST)
class ResetIsRefused(Client):
    def failure(self, error, *, sent):
        return super().failure(error, sent=sent and not isinstance(error, ConnectionError))


@mutant("a request for jobs is never repeated", REFUSED)
class NeverAsksAgain(Client):
    def may_ask_again(self, failure):
        return False


@mutant("what cannot be read means that there is no job", ANSWER)
class GarbageIsNoJob(Client):
    def acquire(self, request, **limits):
        try:
            return super().acquire(request, **limits)
        except CommunicationError as error:
            if "something else" in str(error):
                return []
            raise


@mutant("an update is told once", REPEATED, REFUSED, LASTS)
class ToldOnce(Client):
    def may_tell_again(self, failure):
        return False


@mutant("an update is repeated only if it was not sent", REPEATED)
class RepeatsUnsent(Client):
    def may_tell_again(self, failure):
        return not failure.sent


@mutant("three attempts, whatever time there is", LASTS)
class ThreeAttempts(Client):
    def repeat(self, attempt, again, cancel, deadline):
        left = [3]

        def counted(failure):
            left[0] -= 1
            return left[0] and again(failure)

        return super().repeat(attempt, counted, cancel, deadline)


@mutant("there is no pause between attempts", LASTS, REFUSED)
class NoPause(Client):
    def pause(self, seconds, cancel):
        self.context.clock.advance(0.01) if hasattr(self.context.clock, "advance") else None


@mutant("the pause is a tenth of a second, always", ENDS)
class ShortPause(Client):
    first_pause = longest_pause = 0.1


@mutant("the pauses are the real world's", LASTS)
class RealPause(Client):
    def pause(self, seconds, cancel):
        threading.Event().wait(seconds)


@mutant("the deadline is not looked at", ENDS, "test_an_unreachable_server_is_given_up")
class NoDeadline(Client):
    def repeat(self, attempt, again, cancel, deadline):
        later = Deadline.after(deadline.clock, 5000.0)
        return super().repeat(attempt, again, cancel, later)

    def exchange(self, call, body, cancel, deadline):
        return super().exchange(call, body, cancel, Deadline.after(deadline.clock, 5000.0))


@mutant("what nobody acknowledged is acknowledged in the end", ENDS)
class GivesUpQuietly(Client):
    def update(self, update, **limits):
        try:
            return super().update(update, **limits)
        except CommunicationError as error:
            if "given up" in str(error):
                return self.answer({"commands": []})
            raise


@mutant("the server's wish to be left alone is not honoured", "test_the_server_says_when_to_come_again")
class Impatient(Client):
    def refusal(self, status, headers):
        error = super().refusal(status, headers)
        error.after = 0.0
        return error


@mutant("the server's wish counts more than the deadline", "test_the_server_may_ask_for_more_than_there_is")
class Obedient(Client):
    def refusal(self, status, headers):
        error = super().refusal(status, headers)
        if isinstance(error, Failed) and error.after:
            self.clock.advance(error.after)
            error.after = 0.0
        return error


@mutant("an odd Retry-After is an exception", "test_an_odd_wish_of_a_busy_server_is_no_trouble")
class OddWish(Client):
    def refusal(self, status, headers):
        error = super().refusal(status, headers)
        if status == 503:
            error.after = float(headers.get("Retry-After", 0))
        return error


@mutant("what the pilot tells of itself may get lost", "test_what_is_not_taken_is_an_error")
class QuietWorker(Client):
    def worker_status(self, status, **limits):
        with suppress(CommunicationError):
            super().worker_status(status, **limits)


@mutant("one connection for all threads", "test_requests_at_the_same_time_get_different_jobs")
class OneConnection(Client):
    kept = None

    def connection(self):
        if self.kept is None:
            self.kept = super().connection()
            self.kept.connect()
            self.kept.connect = self.kept.close = lambda: None
        return self.kept


@mutant("a connection that was kept is never looked at again", "test_a_kept_connection_may_have_ended")
class StaleForEver(OneConnection):
    pass


@mutant("a refusal is repeated", "test_a_refusal_is_not_repeated")
class RepeatsRefusals(Client):
    def refusal(self, status, headers):
        return Failed("failed") if status == 400 else super().refusal(status, headers)


@mutant("a refusal is an error of communication like any other", "test_a_refusal_is_not_repeated")
class PlainRefusal(Client):
    def refusal(self, status, headers):
        return CommunicationError("failed") if status == 400 else super().refusal(status, headers)


@mutant("what the server says about its database is not read", REPEATED)
class IgnoresDatabase(Client):
    def not_done(self, answer):
        return super().not_done(answer)

    def decode(self, body):
        answer = super().decode(body)
        return {"ok": True, "commands": [], "jobs": []} if answer.get("kind") == "later" else answer


@mutant("any answer with status 200 is an acknowledgement", REPEATED, ANSWER)
class AnythingGoes(Client):
    def decode(self, body):
        try:
            return super().decode(body)
        except Failed:
            return {"ok": True, "commands": [], "jobs": []}


@mutant("an empty answer is an acknowledgement", REPEATED)
class EmptyIsFine(Client):
    def decode(self, body):
        return super().decode(body or b'{"ok": true, "commands": [], "jobs": []}')


@mutant("a lost answer counts as an acknowledgement", REPEATED)
class LostIsFine(Client):
    def update(self, update, *, cancel, deadline):
        values = self.update_values(update)

        def attempt():
            try:
                return self.call("update", values, cancel, deadline)
            except Failed as failure:
                if failure.sent and "while talking" in str(failure):
                    return {"commands": []}
                raise

        return self.answer(self.repeat(attempt, self.may_tell_again, cancel, deadline))


@mutant("a repetition says less than the first attempt", REPEATED)
class ShorterRepetition(Client):
    def update(self, update, *, cancel, deadline):
        values = self.update_values(update)

        def attempt():
            try:
                return self.call("update", dict(values), cancel, deadline)
            except Failed:
                values["payload_exit_code"] = None
                raise

        return self.answer(self.repeat(attempt, self.may_tell_again, cancel, deadline))


@mutant("one update too many is sent, to be sure", "test_already_done_is_an_acknowledgement", REPEATED)
class TwiceToBeSure(Client):
    def update(self, update, **limits):
        super().update(update, **limits)
        super().update(update, **limits)
        return super().update(update, **limits)


@mutant("an answer that is cut short is an exception of its own", REPEATED, "test_an_unanswered_question_is_an_error")
class RawErrors(Client):
    def failure(self, error, *, sent):
        return error if sent else super().failure(error, sent=sent)


@mutant("what is no JSON is an exception of its own", ANSWER)
class RawJson(Client):
    def decode(self, body):
        import json

        json.loads(body)
        return super().decode(body)


@mutant("errors have several lines", ANSWER)
class LongErrors(Client):
    def failure(self, error, *, sent):
        return Failed(f"it failed:\n{error}", sent=sent)

    def decode(self, body):
        try:
            return super().decode(body)
        except Failed as failure:
            raise Failed(f"{failure}\n{body[:20]!r}") from None


@mutant("a refused credential is a refused request", AUTH)
class AuthIsRefusal(Client):
    def refusal(self, status, headers):
        return RequestRefused("refused") if status == 401 else super().refusal(status, headers)

    def not_done(self, answer):
        return RequestRefused("refused") if answer["kind"] == "credential" else super().not_done(answer)


@mutant("a refused credential is tried again and again", AUTH)
class AuthIsRepeated(Client):
    def refusal(self, status, headers):
        return Failed("refused") if status == 401 else super().refusal(status, headers)


@mutant("a redirection is followed", "test_it_is_not_sent_elsewhere")
class Follows(Client):
    def converse(self, connection, call, body, headers, seen):
        status, told, text = super().converse(connection, call, body, headers, seen)
        if status == 302:
            connection.request("GET", told["Location"], headers=headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        return status, told, text


@mutant("without a credential it is tried all the same", "test_without_a_credential_nothing_is_sent")
class TriesWithout(Client):
    def headers(self, cancel, deadline):
        with suppress(AuthError):
            return super().headers(cancel, deadline)
        return {"Content-Type": "application/json"}


@mutant("what the credential's source says is not passed on", "test_without_a_credential_nothing_is_sent")
class HidesTheSource(Client):
    def headers(self, cancel, deadline):
        try:
            return super().headers(cancel, deadline)
        except AuthError:
            raise AuthError("no credential") from None


@mutant("the credential is read once", "test_a_renewed_credential_is_used")
class OldCredential(Client):
    kept = None

    def headers(self, cancel, deadline):
        self.kept = self.kept or super().headers(cancel, deadline)
        return self.kept


@mutant("all attempts have the credential of the first", "test_a_credential_that_is_renewed_in_a_pause_is_used")
class OneCredentialPerCall(Client):
    def repeat(self, attempt, again, cancel, deadline):
        kept = Client.headers(self, cancel, deadline)
        self.headers = lambda *_: kept
        try:
            return super().repeat(attempt, again, cancel, deadline)
        finally:
            del self.headers


@mutant("the budget is counted by the real clock", ENDS)
class RealBudget(Client):
    def repeat(self, attempt, again, cancel, deadline):
        import time

        class Real:
            at = time.monotonic() + 900.0

            @staticmethod
            def remaining():
                return Real.at - time.monotonic()

        return super().repeat(attempt, again, cancel, Real)

    def exchange(self, call, body, cancel, deadline):
        return super().exchange(call, body, cancel, Deadline.after(self.clock, 60.0))


@mutant("every server is alive", "test_a_server_in_trouble_is_not_alive")
class AlwaysAlive(Client):
    def is_alive(self, **limits):
        with suppress(CommunicationError):
            super().is_alive(**limits)
        return True


@mutant("a question without an answer has an empty one", "test_an_unanswered_question_is_an_error")
class NoAnswerIsEmpty(Client):
    def job_status(self, job_ids, **limits):
        try:
            return super().job_status(job_ids, **limits)
        except CommunicationError:
            return []


@mutant("what the server cannot look up is not found", "test_the_database_may_be_down")
class DownIsNotFound(Client):
    def job_status(self, job_ids, **limits):
        try:
            return super().job_status(job_ids, **limits)
        except CommunicationError:
            return [JobStatus(job_id=job_id, status="not found", attempt=None) for job_id in job_ids]


@mutant("after an error it is of no use any more", "test_it_goes_on_after_an_error")
class BrokenForGood(Client):
    error = None

    def call(self, call, values, cancel, deadline):
        if self.error:
            raise self.error
        try:
            return super().call(call, values, cancel, deadline)
        except RequestRefused as error:
            self.error = error
            raise


@mutant("an answer is read in one piece only", "test_an_answer_may_come_in_pieces")
class OnePiece(Client):
    def converse(self, connection, call, body, headers, seen):
        connection.connect()
        seen["sent"] = True
        connection.request("POST", self.url(call), body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.fp.read1()


@mutant("an answer without a length is empty", "test_an_answer_may_come_in_pieces")
class LengthNeeded(Client):
    def converse(self, connection, call, body, headers, seen):
        connection.connect()
        seen["sent"] = True
        connection.request("POST", self.url(call), body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read(int(response.headers.get("Content-Length", 0)))
