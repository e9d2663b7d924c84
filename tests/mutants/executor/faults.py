"""What may be wrong with an executor, one fault each."""

from __future__ import annotations

from functools import partial

from executor import pilot_faults as at
from executor import pilot_later as later
from executor.reference import Executor, Plugin
from harness import Mutant

ARGUMENTS = "test_arguments_arrive_unchanged"
ENVIRONMENT = "test_the_environment_is_exactly_the_specs"
CODES = "test_exit_codes_are_told_exactly"
SIGNALS = "test_signals_are_told_as_signals"
UNEXECUTABLE = "test_what_cannot_be_executed_is_the_payloads_error"
OUTPUTS = "test_outputs_are_exact_and_apart"
ASKED = "test_every_process_of_the_payload_is_asked"
POLITE = "test_end_asks_first_and_returns_at_once"
GRACE = "test_who_ignores_sigterm_is_killed_after_the_grace"
NOTHING_LIVES = "test_no_process_lives_when_the_end_is_told"
TIMES = "test_times_are_wall_times_of_start_and_end"
CPU = "test_cpu_time_is_measured"
MEMORY = "test_memory_is_measured"
LEFTOVERS = "test_leftovers_are_counted"
BYSTANDERS = "test_bystanders_are_left_alone"
MANY = "test_many_in_a_row_leave_nothing"
DAMAGED = "test_a_damaged_handle_is_an_error_for_the_reader"
NEVER = "test_a_payload_that_never_was_has_no_result"
LOST = "test_a_lost_record_is_no_result"
CLOSING = "test_closing_leaves_payloads_alone"
RUNNING = "test_start_returns_while_the_payload_runs"
JSON = "test_a_handle_is_plain_json"
SECRETS = "test_secrets_of_the_environment_are_told_to_nobody"
WORD = "test_a_shells_word_for_a_signal_is_an_exit_code"
DIRECTORY = "test_it_starts_in_its_directory"
OWN_PATH = "test_a_program_is_found_by_the_payloads_own_path"
INPUT = "test_standard_input_is_empty"
DESCRIPTORS = "test_no_descriptor_of_the_pilot_reaches_the_payload"
UNMASKED = "test_signals_are_neither_ignored_nor_blocked"
UMASK = "test_the_umask_is_a_sensible_one"
MODES = "test_output_files_are_not_for_others_to_write"
EARLY = "test_output_is_there_while_the_payload_runs"
NO_OUTPUT = "test_an_output_that_cannot_be_made_is_told"
LINK = "test_output_does_not_follow_a_planted_link"
GROUP = "test_it_hears_no_signal_meant_for_the_pilot"
OUTLIVES = "test_a_payload_outlives_its_pilot"
ANOTHERS = "test_a_handle_of_another_is_refused"
LITTER = "test_nothing_else_appears_in_the_jobs_directory"
PILOTS = "test_the_pilots_signals_and_children_are_its_own"
LAST = "test_the_end_is_not_told_before_the_last_process_has_ended"
LATE_START = "test_a_start_past_its_deadline_starts_nothing"
AGAIN = "test_end_may_be_called_again_and_after_the_end"
NO_DELAY = "test_asking_again_does_not_put_off_the_end"
EARLY_END = "test_an_end_right_after_the_start_counts"
ODD_NAMES = "test_directories_may_have_odd_names"
STOPPED = "test_a_payload_that_stops_has_not_ended"
FAMILY = "test_a_family_that_replaces_its_dead_is_gone"
NUL = "test_what_no_system_could_execute_is_refused_in_one_line"
DEAD = "test_the_dead_are_no_leftovers"
CANCELLED = "test_a_cancelled_start_starts_nothing"
NO_RESULT = "test_there_is_no_result_before_the_end"
APART = "test_payloads_side_by_side_are_kept_apart"
TWO = "test_two_may_watch_one_payload"
ANOTHER_PROCESS = "test_another_process_finds_a_payload_that_runs"
HOLDS = "test_nothing_holds_the_pilots_output"
LENGTH = "test_the_grace_is_as_long_as_the_spec_says"
ONCE = "test_it_is_asked_once"
BLOCKS = "test_blocks_are_of_512_bytes"
LEAVES = "test_a_pilot_may_leave_while_its_payload_runs"
NUMBER = "test_a_number_that_is_another_process_now_is_not_believed"


def _plugin(executor=Executor, **attributes):
    """Return a plugin whose executor has other attributes."""
    return Plugin(type(executor.__name__, (executor,), attributes))


def _supervised(name, fault, cls, *caught_by):
    make = partial(_plugin, supervisor=f"executor.supervisor_faults:{cls}")
    return Mutant(name=name, fault=fault, caught_by=caught_by, plugin=make)


def _later(name, fault, cls, *caught_by):
    make = partial(_plugin, supervisor=f"executor.supervisor_later:{cls}")
    return Mutant(name=name, fault=fault, caught_by=caught_by, plugin=make)


def _started(name, fault, cls, *caught_by):
    return Mutant(name=name, fault=fault, caught_by=caught_by, plugin=partial(_plugin, cls))


def _found(name, fault, cls, *caught_by):
    return Mutant(name=name, fault=fault, caught_by=caught_by, plugin=partial(_plugin, payload=cls))


MUTANTS = (
    _supervised("code-cut-off", "Exit codes above 127 lose their highest bit.", "CodeCutOff", CODES),
    _supervised("code-raw", "The wait status is told for the exit code.", "CodeRaw", CODES),
    _supervised("code-beyond-128", "An exit code above 128 is taken for a signal.", "CodeBeyond128", CODES, WORD),
    _supervised("signal-as-code", "A signal is told as exit code 128 + n.", "SignalAsCode", SIGNALS),
    _supervised("signal-and-code", "A signal is told as such and as a negative exit code.", "SignalAndCode", SIGNALS),
    _supervised("signal-lost", "A payload that was killed exited with 0.", "SignalLost", SIGNALS),
    _supervised("error-is-zero", "What cannot be executed exits with 0.", "ErrorIsZero", UNEXECUTABLE),
    _supervised("error-is-127", "What cannot be executed exits with 127.", "ErrorIs127", UNEXECUTABLE),
    _supervised("error-of-lines", "The error is a traceback.", "LongError", UNEXECUTABLE),
    _started("error-is-raised", "What cannot be executed is an exception.", at.Thrown, UNEXECUTABLE),
    _supervised("shell", "The arguments are joined for a shell.", "Shell", ARGUMENTS),
    _supervised("quoting-shell", "A shell runs the program, and its environment.", "QuotingShell", ENVIRONMENT),
    _supervised("words-cut", "Empty arguments are dropped.", "WordsCut", ARGUMENTS),
    _started("environment-leaks", "The pilot's environment reaches the payload.", at.PassingOn, ENVIRONMENT),
    _supervised("environment-grows", "The executor adds a variable of its own.", "OneMore", ENVIRONMENT),
    _supervised("environment-stripped", "Blanks around values are lost.", "Stripped", ENVIRONMENT),
    _supervised("elsewhere", "The payload starts in another directory.", "Elsewhere", DIRECTORY),
    _supervised("pilots-path", "Programs are looked for on the pilot's PATH.", "PilotsPath", OWN_PATH),
    _started("pilots-input", "The payload reads the pilot's standard input.", at.PilotsInput, INPUT),
    _started("descriptors", "Inheritable descriptors of the pilot reach the payload.", at.Inheriting, DESCRIPTORS),
    _supervised("signals-ignored", "Python's ignored signals stay ignored.", "Ignoring", UNMASKED),
    _supervised("signals-blocked", "SIGTERM stays blocked in the payload.", "Masked", UNMASKED),
    _supervised("no-umask", "The umask is 0, as daemons are told to have it.", "NoMask", UMASK),
    _supervised("for-everybody", "Everybody may write the outputs.", "ForEverybody", MODES),
    _supervised("merged", "Both outputs go to one file.", "Merged", OUTPUTS),
    _supervised("cut-off", "Standard output is cut at 1 MB.", "CutOff", OUTPUTS),
    _supervised("decoded", "Standard output is decoded, and bytes replaced.", "Decoded", OUTPUTS),
    _supervised("late", "Outputs are put in their place at the end only.", "Late", EARLY),
    _supervised("null-output", "Without a place for its output a payload runs without it.", "NullOutput", NO_OUTPUT),
    _supervised("link-followed", "A planted link is followed.", "SharedPosition", LINK),
    _started("in-the-pilots-group", "The payload is in the pilot's process group.", at.InSession, GROUP),
    _supervised("leader-asked", "Only the payload's own process is asked to end.", "LeaderAsked", ASKED),
    _supervised("group-asked", "Only the payload's process group is asked to end.", "GroupAsked", ASKED),
    _supervised("no-grace", "SIGKILL follows SIGTERM at once.", "Impatient", POLITE, GRACE),
    _supervised(
        "no-sigterm", "SIGKILL comes without SIGTERM.", "Rude", POLITE, "test_a_plain_payload_is_ended_by_sigterm"
    ),
    _supervised("no-sigkill", "Who ignores SIGTERM is asked once more.", "Merciful", GRACE),
    _supervised("daemons-left", "Only the payload's own process is looked after.", "LeaderOnly", NOTHING_LIVES),
    _supervised("sessions-left", "Only the process group is ended.", "GroupOnly", NOTHING_LIVES),
    _supervised("unmarked-left", "Only processes with the environment are ended.", "EnvironmentOnly", NOTHING_LIVES),
    _supervised(
        "one-sweep", "Processes are looked for once.", "OneSweep", "test_a_process_that_is_always_another_one_is_gone"
    ),
    _supervised("by-directory", "Who works in the payload's directory is ended.", "ByDirectory", BYSTANDERS),
    _found("children-ended", "All children of the pilot are ended.", at.Children, BYSTANDERS),
    _started("all-ended", "All payloads are ended with one.", at.Sharing, "test_end_is_for_one_payload"),
    _supervised("last-process", "The result is that of the process that ended last.", "LeftoversResult", NOTHING_LIVES),
    _supervised("end-is-a-signal", "What was asked to end is told as ended by SIGTERM.", "EndIsASignal", POLITE),
    _started("tied", "The payload is ended when its pilot dies.", at.Tied, OUTLIVES),
    _supervised("monotonic", "Times are those of the monotonic clock.", "Monotonic", TIMES),
    _found("asked-when", "The end is when the result is asked for.", at.AskedWhen, TIMES),
    _supervised("own-usage", "CPU time is the supervisor's own.", "OwnUsage", CPU, MEMORY),
    _supervised("main-usage", "CPU time is without the payload's children.", "MainUsage", CPU),
    _supervised("milliseconds", "CPU time is in milliseconds.", "Milliseconds", CPU),
    _supervised("bytes", "Memory is in bytes.", "Bytes", MEMORY),
    _supervised("megabytes", "Memory is in megabytes.", "Megabytes", MEMORY),
    _supervised("none-left", "Leftovers are not counted.", "NoneLeft", LEFTOVERS),
    _supervised("some-left", "Several leftovers count as one.", "SomeLeft", LEFTOVERS),
    _supervised("one-too-many", "The payload counts as its own leftover.", "OneTooMany", CODES, LEFTOVERS),
    _supervised("pid-file", "A file of the executor's lies in the job's directory.", "PidFile", LITTER),
    Mutant(
        name="records-in-directory",
        fault="The record of the end lies in the job's directory.",
        caught_by=(LITTER, "test_a_payload_may_remove_its_directory"),
        plugin=partial(_plugin, supervisor="executor.supervisor_faults:RecordsInDirectory", payload=at.FromDirectory),
    ),
    _started(
        "holds-output",
        "The supervisor holds the pilot's standard output.",
        at.HoldingOutput,
        "test_nothing_holds_the_pilots_output",
    ),
    _started("not-cancelled", "A cancelled start starts.", at.NotCancelled, CANCELLED),
    _started(
        "no-deadline",
        "A start past its deadline starts.",
        at.NoDeadline,
        LATE_START,
    ),
    _started(
        "checked-late",
        "The token is looked at when the payload runs.",
        at.CheckedLate,
        CANCELLED,
    ),
    _started("start-waits", "`start` waits for the payload's end.", at.Waiting, RUNNING),
    _started("no-json", "The handle has a tuple in it.", at.PathInHandle, JSON),
    _started("nameless", "The handle names another executor.", at.Nameless, JSON),
    _started("whole-spec", "The handle has the payload's environment in it.", at.WholeSpec, SECRETS),
    _started("secret-argument", "The environment is in a command line.", at.ByArgument, SECRETS),
    _started("secret-log", "The environment is logged.", at.Chatty, SECRETS),
    _started(
        "from-memory",
        "Only who started a payload finds it.",
        at.FromMemory,
        ANOTHER_PROCESS,
        CLOSING,
    ),
    _started(
        "last-one",
        "Results are those of the payload that was started last.",
        at.LastOne,
        APART,
    ),
    _started("any-handle", "Any handle is taken.", at.AnyHandle, ANOTHERS),
    _started("any-version", "A handle of any version is taken.", at.AnyVersion, ANOTHERS),
    _started("damaged-handle", "A damaged handle is a KeyError.", at.Trusting, DAMAGED),
    _found(
        "any-process",
        "A process is believed by its number alone.",
        at.AnyProcess,
        NUMBER,
    ),
    _started("zombies", "A process that was started is not waited for.", at.Zombies, "test_no_zombie_stays", MANY),
    _found("descriptor-leak", "Each look leaves a descriptor.", at.Leaking, MANY),
    _found("thread-leak", "Each payload leaves a thread.", at.Threads, MANY),
    _started("close-ends", "`close` of the executor ends its payloads.", at.CloseEnds, CLOSING),
    _found(
        "close-ends-payload",
        "`close` of the watch ends the payload.",
        at.CloseEndsPayload,
        CLOSING,
        TWO,
    ),
    _found("close-once", "A second `close` raises.", at.CloseOnce, CLOSING),
    _found("made-up-result", "A payload that runs has a good result.", at.MadeUp, NO_RESULT),
    _found("result-waits", "`result` waits for the end.", at.Blocking, NO_RESULT),
    _found("result-once", "The result can be read once.", at.ResultOnce, RUNNING),
    _found("never-ready", "The descriptor never becomes readable.", at.NeverReady, RUNNING),
    _found("always-ready", "The descriptor is always readable.", at.AlwaysReady, RUNNING),
    _found(
        "own-process",
        "The descriptor tells of the payload's own process only.",
        at.OwnProcess,
        LAST,
    ),
    _found("end-waits", "`end` waits for the end.", at.EndWaits, POLITE),
    _found("end-raises", "`end` after the end raises.", at.EndRaises, AGAIN),
    _found("end-twice", "A second `end` raises.", at.EndTwice, AGAIN),
    _found("lost-is-good", "A lost record is a good result.", at.LostIsGood, LOST, NEVER),
    _found("lost-is-bad", "A lost record is exit code 1.", at.LostIsBad, LOST),
    _found("lost-is-raised", "A lost record is an error of Python's.", at.LostIsRaised, LOST),
    # those that were thought of when the kit was there
    _supervised("put-off", "Each `end` begins the grace anew.", "PutOff", NO_DELAY),
    _supervised("second-end-kills", "A second `end` kills.", "SecondKills", AGAIN),
    _supervised("fixed-grace", "The grace is 5 s, whatever the spec says.", "FixedGrace", GRACE),
    _supervised("first-word", "The program is told its whole path as its name.", "FirstWord", ARGUMENTS),
    _supervised(
        "early-end-lost",
        "An `end` in the first moments is lost.",
        "EarlyEndLost",
        EARLY_END,
    ),
    _supervised("variables-in-paths", "`$HOME` in a path is replaced.", "Expanding", ODD_NAMES),
    _supervised("unknown-signal", "Signals without a name are a surprise.", "NamedSignals", SIGNALS),
    _supervised(
        "stopped-is-ended",
        "A payload that stops is told to have ended.",
        "StoppedIsEnded",
        STOPPED,
    ),
    _supervised("dead-left", "Zombies count as leftovers.", "DeadLeft", DEAD),
    _supervised("vague-error", "The error does not say what could not be started.", "Vague", UNEXECUTABLE),
    _supervised("shell-fallback", "What cannot be executed is given to a shell.", "ShellFallback", UNEXECUTABLE),
    _supervised("leftovers-killed", "Leftovers are killed without being asked.", "LeftoversKilled", LAST),
    _supervised("leftovers-waited-for", "Leftovers are waited for, not ended.", "LeftoversWaitedFor", NOTHING_LIVES),
    _supervised(
        "family-left",
        "Whoever was started while others were killed is left.",
        "TwoSweeps",
        FAMILY,
    ),
    _started("spec-changed", "The environment of the spec is written to.", at.ChangingSpec, ENVIRONMENT),
    _started("one-file", "Orders go through one file.", at.OneFile, APART),
    _started("deaf-pilot", "The pilot ignores SIGCHLD from then on.", at.DeafPilot, PILOTS),
    _started("reaping-all", "The executor waits for children that are not its own.", at.ReapingAll, PILOTS),
    _started("open-first", "A refused handle leaves a descriptor.", at.OpenFirst, "test_refused_handles_leave_nothing"),
    _started("order-file", "Everybody may read the payload's environment.", at.OrderFile, SECRETS),
    _started(
        "pythons-timeout",
        "A deadline that has passed is an error of Python's.",
        at.PythonsTimeout,
        LATE_START,
    ),
    _started(
        "pythons-value-error",
        "A NUL character is an error of Python's.",
        at.PythonsValueError,
        NUL,
    ),
    _found("formatting", "The reason is taken for a format.", at.Formatting, POLITE),
    _found("unwritable", "The result holds what JSON cannot.", at.Unwritable, CODES),
    _found("text-times", "The memory is told as a text.", at.TextTimes, MEMORY),
    _found("fresh-descriptor", "The descriptor is another one each time.", at.FreshDescriptor, RUNNING),
    # those of somebody who tried to beat the kit
    _later("least-grace", "The grace is 2 s at the least.", "AtLeast2s", LENGTH),
    _later("leftovers-own-grace", "Leftovers have 2 s, whatever the spec says.", "LeftoversGrace", LENGTH),
    _later("grace-from-start", "The grace is counted from the payload's start.", "GraceFromStart", GRACE),
    _later("asked-each-time", "Each `end` sends SIGTERM.", "AskingEachTime", ONCE),
    _later("asked-on-and-on", "SIGTERM is sent ten times a second.", "AskingOnAndOn", ONCE),
    _later("looking", "The supervisor looks all the time.", "Looking", "test_waiting_costs_nothing"),
    _later("link-to-nowhere", "A planted link is followed where it leads to nothing yet.", "LinkToNowhere", LINK),
    _later("first-generation", "Children of what is left are not counted.", "FirstGeneration", LEFTOVERS),
    _later("writable-record", "Everybody may write the record of the end.", "WritableRecord", MODES),
    _found("result-waits-a-while", "`result` waits some seconds for the end.", later.WaitingAWhile, NO_RESULT),
    _later("careless-reader", "A program of an odd name is taken for a zombie.", "CarelessReader", NOTHING_LIVES),
    _later("times-swapped", "User and system time are swapped.", "SwappedTimes", CPU),
    _later("written-bytes", "Bytes are told for blocks.", "WrittenBytes", BLOCKS),
    _later("written-is-read", "What was written is told as read.", "WrittenIsRead", BLOCKS),
    _later("variables-in-words", "`$PATH` in an argument is replaced.", "ReplacingVariables", ARGUMENTS),
    _started("held-by-thread", "A thread holds the pilot until the payload ends.", later.HeldByThread, LEAVES),
    _started("ended-at-exit", "The payload is ended when its pilot exits.", later.EndingAtExit, LEAVES),
    _started("by-job", "Records are kept by PandaID.", later.ByJob, "test_a_payload_may_be_run_again"),
    _started("dict-wanted", "An environment that is no dict is an error of Python's.", later.DictWanted, ENVIRONMENT),
    _started("too-long", "An argument that is too long is an error of Python's.", later.TooLong, NUL),
    _started("subreaper", "The pilot becomes the parent of orphans.", later.Subreaper, PILOTS),
    _started("cumulative", "The memory is that of all payloads so far.", later.Cumulative, MEMORY),
    _started("holds-errors", "The supervisor holds the pilot's standard error.", later.HoldingErrors, HOLDS),
    _found("nothing-to-end", "`end` of what was found ended raises.", later.NothingToEnd, AGAIN),
)
