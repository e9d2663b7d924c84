"""Faults in what is told and what is got."""

from __future__ import annotations

import time
from dataclasses import replace
from urllib.parse import unquote

from communicator.planting import planting, telling
from communicator.reference import Client, Failed, unset

from pilot_core import BadJob, CommunicationError, Job, RequestRefused, ServerAnswer

MUTANTS = []
mutant = planting(MUTANTS)
FIELD, JOB_FIELD = "test_a_field_of_an_update_arrives", "test_a_field_of_a_job_arrives"
LONG, ODD, BAD = (
    "test_what_is_too_long_is_cut",
    "test_odd_characters_arrive",
    "test_what_no_database_holds_is_no_trouble",
)
BROKEN, COMMANDS = "test_a_broken_description_is_a_bad_job", "test_commands_arrive"
DONE = ("test_a_final_update_may_come_twice", "test_already_done_is_an_acknowledgement")


# -- updates ---------------------------------------------------------------------------------------------------------


@mutant("a field is left out", FIELD)
class DroppedField(Client):
    update_values = telling(payload_error_code=lambda value: None)


@mutant("whatever is false is left out", "test_zero_is_not_nothing", "test_exit_codes_keep_their_value")
class ZeroIsNothing(Client):
    def update_values(self, update):
        values = super().update_values(update)
        values["payload_exit_code"] = values["payload_exit_code"] if (values["payload_exit_code"] or 0) > 0 else None
        return {name: value or None for name, value in values.items()}


@mutant("what is not known is told as -1", "test_nothing_is_made_up")
class NothingIsMinusOne(Client):
    update_values = telling(payload_exit_code=lambda value: -1 if value is None else value)


@mutant("what is not known is told as 0", "test_nothing_is_made_up")
class NothingIsZero(Client):
    update_values = telling(cpu_seconds=lambda value: value or 0)


@mutant("CPU time in minutes", FIELD)
class Minutes(Client):
    update_values = telling(cpu_seconds=lambda value: value and value // 60)


@mutant("memory in bytes", FIELD)
class Bytes(Client):
    update_values = telling(max_rss_kb=lambda value: value and value * 1024)


@mutant("the machine's local time for UTC", "test_moments_do_not_depend_on_the_time_zone")
class LocalTime(Client):
    update_values = telling(
        start_time=lambda value: value and value + time.localtime(value).tm_gmtoff,
        end_time=lambda value: value and value + time.localtime(value).tm_gmtoff,
    )


@mutant("start for end", FIELD)
class StartForEnd(Client):
    def update_values(self, update):
        return super().update_values(replace(update, end_time=update.start_time))


@mutant("the payload's error and the pilot's are swapped", FIELD)
class Swapped(Client):
    def update_values(self, update):
        return super().update_values(
            replace(update, pilot_error=update.payload_error, payload_error=update.pilot_error)
        )


@mutant("exit codes as a shell shows them", "test_exit_codes_keep_their_value")
class ShellCodes(Client):
    update_values = telling(payload_exit_code=lambda value: value and value & 0xFF)


@mutant("numbers are cut to 32 bits", "test_large_numbers_arrive")
class ShortNumbers(Client):
    update_values = telling(max_rss_kb=lambda value: value and value & 0x7FFFFFFF)


@mutant("only ASCII is told", ODD)
class AsciiOnly(Client):
    update_values = telling(pilot_error=lambda value: value.encode("ascii", "replace").decode())


@mutant("line breaks become blanks", ODD)
class OneLine(Client):
    update_values = telling(log_extract=lambda value: " ".join(value.split()))


@mutant("NULs are told as they are", BAD)
class NulKept(Client):
    def cleaned(self, value):
        return value.replace("\0", "\0") if isinstance(value, str) else super().cleaned(value)


@mutant("half surrogates are told as they are", BAD)
class SurrogatesKept(Client):
    def cleaned(self, value):
        return value.replace("\0", "") if isinstance(value, str) else super().cleaned(value)


@mutant("what follows a NUL is lost", BAD)
class CutAtNul(Client):
    def cleaned(self, value):
        return super().cleaned(value.partition("\0")[0] if isinstance(value, str) else value)


@mutant("long texts are an error", LONG)
class LongIsAnError(Client):
    def update_values(self, update):
        if len(update.pilot_error) > 500:
            raise RequestRefused("pilot_error: too long")
        return super().update_values(update)


@mutant("long texts are left out", LONG)
class LongIsLeftOut(Client):
    update_values = telling(payload_error=lambda value: value if len(value) <= 500 else "")


@mutant("large metadata are left out", "test_large_metadata_arrives_whole")
class SmallMetadata(Client):
    update_values = telling(metadata=lambda value: value if len(str(value)) < 100_000 else {})


@mutant("a hundred files are enough", "test_many_files_arrive")
class FewFiles(Client):
    update_values = telling(files=lambda value: value[:100])


@mutant("empty files are not reported", FIELD)
class NoEmptyFiles(Client):
    update_values = telling(files=lambda value: [file for file in value if file["size"]])


@mutant("md5 checksums are told as adler32", FIELD)
class OneChecksum(Client):
    update_values = telling(
        files=lambda value: [{**file, "checksum": file["checksum"].replace("md5", "adler32")} for file in value]
    )


@mutant("the update is changed", "test_an_update_is_left_as_it_is")
class ChangesItsInput(Client):
    def update_values(self, update):
        update.metadata["sent"] = True
        return super().update_values(update)


@mutant("keys of the metadata in small letters", FIELD)
class SmallLetters(Client):
    update_values = telling(metadata=lambda value: {key.lower(): item for key, item in value.items()})


@mutant("phases that took no time are left out", FIELD)
class NoZeroTimes(Client):
    update_values = telling(timing=lambda value: [part for part in value if part])


@mutant("an attempt is needed", "test_an_unknown_attempt_is_no_trouble")
class AttemptNeeded(Client):
    update_values = telling(attempt=int)


@mutant("the attempt is forgotten", FIELD)
class NoAttempt(Client):
    update_values = telling(attempt=lambda value: None)


@mutant("holding is told as running", "test_every_state_arrives")
class FewStates(Client):
    update_values = telling(state=lambda value: "running" if value == "holding" else value)


@mutant("of a long stdout the beginning is told", LONG)
class HeadOfStdout(Client):
    update_values = telling(stdout=lambda value: value[:2048])


@mutant("the machine's name is told for a node that is not known", "test_nothing_is_made_up")
class NodeMadeUp(Client):
    update_values = telling(node=lambda value: value or "localhost")


@mutant("what was told before is not told again", "test_a_final_update_may_come_twice")
class ToldBefore(Client):
    told = None

    def update(self, update, **limits):
        if self.told is None or self.told[0] != update:
            self.told = update, super().update(update, **limits)
        return self.told[1]


# -- answers ---------------------------------------------------------------------------------------------------------


@mutant("commands are not looked at", COMMANDS)
class Deaf(Client):
    def answer(self, answer):
        return ServerAnswer()


@mutant("commands that are not known are dropped", COMMANDS)
class KnownOnly(Client):
    def answer(self, answer):
        return ServerAnswer(
            commands=tuple(c for c in answer["commands"] if c in {"tobekilled", "softkill", "alreadydone"})
        )


@mutant("only the first command counts", "test_several_commands_are_several")
class FirstOnly(Client):
    def answer(self, answer):
        return ServerAnswer(commands=tuple(answer["commands"][:1]))


@mutant("no command is an empty one", "test_no_command_is_no_command")
class EmptyCommand(Client):
    def answer(self, answer):
        return ServerAnswer(commands=tuple(answer["commands"]) or ("",))


@mutant("alreadydone is an error", *DONE)
class DoneIsAnError(Client):
    def answer(self, answer):
        if "alreadydone" in answer["commands"]:
            raise RequestRefused("it was reported before")
        return super().answer(answer)


@mutant("alreadydone is no acknowledgement", *DONE)
class DoneIsRepeated(Client):
    def call(self, call, values, cancel, deadline):
        answer = super().call(call, values, cancel, deadline)
        if "alreadydone" in answer.get("commands", ()):
            raise Failed("not done")
        return answer


@mutant("tobekilled for a job that is not ours is dropped", "test_a_job_that_is_not_ours_is_told")
class NotOursIsFine(Client):
    def answer(self, answer):
        return ServerAnswer(commands=tuple(c for c in answer["commands"] if c != "tobekilled"))


# -- requests and jobs -----------------------------------------------------------------------------------------------


@mutant("no job is None", "test_no_job_is_an_empty_answer")
class NoneForNoJob(Client):
    def acquire(self, request, **limits):
        return super().acquire(request, **limits) or None


@mutant("no job is an error", "test_no_job_is_an_empty_answer")
class NoJobIsAnError(Client):
    def acquire(self, request, **limits):
        found = super().acquire(request, **limits)
        if not found:
            raise CommunicationError("no job")
        return found


@mutant("without a job it is asked once more", "test_no_job_is_an_empty_answer")
class AsksTwice(Client):
    def acquire(self, request, **limits):
        return super().acquire(request, **limits) or super().acquire(request, **limits)


@mutant("only the first job is taken out of an answer", "test_several_jobs_come_at_once")
class OneJob(Client):
    def acquire(self, request, **limits):
        return super().acquire(request, **limits)[:1]


@mutant("the computing element for the queue", "test_a_field_of_a_request_arrives")
class ElementForQueue(Client):
    def request_values(self, request):
        return super().request_values(replace(request, queue=request.computing_element or request.queue))


@mutant("an unknown attempt is 0", "test_what_a_job_does_not_say_is_not_made_up")
class AttemptZero(Client):
    def good_job(self, entry):
        job = super().good_job(entry)
        return replace(job, attempt=job.attempt or 0)


@mutant("memory is asked for in GB", "test_a_field_of_a_request_arrives")
class Gigabytes(Client):
    def request_values(self, request):
        return super().request_values(replace(request, memory_mb=(request.memory_mb or 0) // 1000))


@mutant("the worker's id is forgotten", "test_a_field_of_a_request_arrives")
class NoWorker(Client):
    def request_values(self, request):
        return super().request_values(replace(request, worker_id=None))


@mutant("2 GB are asked for if nothing is said", "test_no_wish_is_made_up")
class MadeUpWish(Client):
    def request_values(self, request):
        return super().request_values(replace(request, memory_mb=request.memory_mb or 2000))


@mutant("the payload's arguments are trimmed", "test_parameters_are_left_as_they_are")
class Trimmed(Client):
    def parameters(self, entry):
        return entry["jobPars"].strip()


@mutant("per cent signs of the arguments are decoded", "test_parameters_are_left_as_they_are", JOB_FIELD)
class Unquoted(Client):
    def parameters(self, entry):
        return unquote(entry["jobPars"])


@mutant("an empty file's size is unknown", JOB_FIELD)
class EmptyIsUnknown(Client):
    def input(self, lfn, scope, guid, size, *rest):
        return super().input(lfn, scope, guid, None if size == "0" else size, *rest)


@mutant("an unknown size is 0", JOB_FIELD)
class UnknownIsEmpty(Client):
    def input(self, lfn, scope, guid, size, *rest):
        return super().input(lfn, scope, guid, size or "0", *rest)


@mutant("md5 checksums are dropped", JOB_FIELD)
class NoMd5(Client):
    def checksum(self, text):
        return "" if (text or "").startswith("md5") else super().checksum(text)


@mutant("checksums keep PanDA's prefix", JOB_FIELD)
class RawChecksum(Client):
    def checksum(self, text):
        super().checksum(text)
        return text or ""


@mutant("the log is among the outputs", JOB_FIELD)
class LogIsAnOutput(Client):
    def outputs(self, entry):
        outputs, log = super().outputs(entry)
        return (*outputs, log), log


@mutant("optional outputs are not told apart", JOB_FIELD)
class AllOutputsNeeded(Client):
    def outputs(self, entry):
        return super().outputs({**entry, "allowNoOutput": ""})


@mutant("the text NULL comes through", "test_what_a_job_does_not_say_is_not_made_up")
class NullComesThrough(Client):
    def good_job(self, entry):
        return replace(super().good_job(entry), platform=entry["cmtConfig"])


@mutant("words without a place are dropped", JOB_FIELD)
class NoExtra(Client):
    def good_job(self, entry):
        return replace(super().good_job(entry), extra={})


@mutant("the jobs that came are logged with their secrets", "test_secrets_do_not_show")
class LogsSecrets(Client):
    def good_job(self, entry):
        self.log.debug("got %s", entry)
        return super().good_job(entry)


@mutant("a bad description is an exception", BROKEN, "test_a_broken_description_spoils_no_other")
class BadRaises(Client):
    def job(self, entry):
        return self.good_job(entry)


@mutant("a bad description is passed over", BROKEN)
class BadIsSkipped(Client):
    def acquire(self, request, **limits):
        return [job for job in super().acquire(request, **limits) if isinstance(job, Job)]


@mutant("a bad job has no log", BROKEN)
class BadWithoutLog(Client):
    def job(self, entry):
        job = super().job(entry)
        return replace(job, log=None) if isinstance(job, BadJob) else job


@mutant("a bad job has no attempt", BROKEN)
class BadWithoutAttempt(Client):
    def job(self, entry):
        job = super().job(entry)
        return replace(job, attempt=None) if isinstance(job, BadJob) else job


@mutant("a job without a program is a good one", BROKEN)
class NoProgramIsFine(Client):
    def good_job(self, entry):
        return super().good_job({**entry, "transformation": unset(entry["transformation"]) or "/bin/true"})


@mutant("a bad job takes the good ones with it", "test_a_broken_description_spoils_no_other")
class BadSpoilsAll(Client):
    def acquire(self, request, **limits):
        found = super().acquire(request, **limits)
        bad = [job for job in found if isinstance(job, BadJob)]
        return bad or found


# -- other calls -----------------------------------------------------------------------------------------------------


@mutant("nothing is told of the pilot", "test_the_pilot_is_told_of")
class SilentPilot(Client):
    def worker_status(self, status, **limits):
        pass


@mutant("a field of the machine is left out", "test_the_machine_is_told_of")
class HalfAMachine(Client):
    def worker_node(self, node, **limits):
        super().worker_node(replace(node, disk_gb=None), **limits)


@mutant("unknown jobs are left out of the states", "test_states_of_jobs_are_told")
class KnownStatesOnly(Client):
    def job_status(self, job_ids, **limits):
        return [status for status in super().job_status(job_ids, **limits) if status.status != "not found"]


@mutant("the states of a hundred jobs are enough", "test_the_states_of_many_jobs_are_told")
class HundredStates(Client):
    def job_status(self, job_ids, **limits):
        return super().job_status(job_ids[:100], **limits)


@mutant("an empty question is sent, and refused", "test_a_question_for_no_job_is_answered")
class EmptyQuestion(Client):
    def job_status(self, job_ids, *, cancel, deadline):
        values = {"job_ids": list(job_ids) or None}
        return self.call("status", values, cancel, deadline)["jobs"] and super().job_status(
            job_ids, cancel=cancel, deadline=deadline
        )


@mutant("is_alive returns nothing", "test_the_server_is_alive")
class AliveIsNothing(Client):
    def is_alive(self, **limits):
        super().is_alive(**limits)
