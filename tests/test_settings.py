"""Settings from four layers: which one wins, and how every mistake is named."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilot_core import ConfigError, NoSettings, PluginError, setting
from pilot_core.pilot_settings import PilotSettings
from pilot_core.settings import Config, add_options, did_you_mean, given_options

if TYPE_CHECKING:
    from decimal import Decimal


@dataclass(frozen=True)
class Sample:
    text: str = setting("t", help="a text", env="SAMPLE_TEXT")
    number: int = setting(1, help="a whole number", env="SAMPLE_NUMBER", minimum=0)
    rate: float = setting(0.5, help="a number", env="SAMPLE_RATE", minimum=0)
    flag: bool = setting(False, help="a flag", env="SAMPLE_FLAG")
    file: Path | None = setting(None, help="a path", env="SAMPLE_FILE")
    names: tuple[str, ...] = setting(("a", "b"), help="some names", env="SAMPLE_NAMES")
    level: str = setting("low", help="a level", choices=("low", "middle", "high"))
    token: str = setting("", help="a secret", secret=True, env="SAMPLE_TOKEN", choices=("", "canary-5d1f7c0ae2"))
    limit: int | None = setting(None, help="a limit that may be left out")
    colours: tuple[str, ...] = setting((), help="colours", choices=("red", "green"))


@dataclass(frozen=True)
class Needs:
    place: str = setting(help="where it is")


@pytest.fixture
def read(tmp_path):
    """Make a `Config` of a file's text, `--set` texts and an environment."""

    def read(text=None, *sets, **environment):
        file = None
        if text is not None:
            file = tmp_path / "pilot.toml"
            file.write_text(text, encoding="utf-8")
        return Config.read(file, sets, environment)

    return read


@pytest.fixture
def problem(read):
    """Return the message that settings give."""

    def problem(text=None, *sets, cls=Sample, options=None, **environment):
        with pytest.raises(ConfigError) as caught:
            read(text, *sets, **environment).section("stager.http", cls, options)
        message = str(caught.value)
        assert "\n" not in message
        return message

    return problem


def made_or_refused(make):
    """Return what was made and no message, or None and the message of the `ConfigError`."""
    try:
        return make(), ""
    except ConfigError as error:
        return None, str(error)


# -- which layer wins --------------------------------------------------------------------------------------------------


def test_without_anything_the_defaults_count(read):
    assert read().section("stager.http", Sample) == Sample()
    assert read("").section("stager.http", Sample) == Sample()
    assert read("[stager.other]\ntext = 'x'\n").section("stager.http", Sample) == Sample()


LAYERS = ("file", "environment", "set", "option")


@pytest.mark.parametrize("given_layers", [LAYERS[:count] for count in range(1, 5)] + [(layer,) for layer in LAYERS])
def test_a_later_layer_wins_over_every_earlier_one(read, given_layers):
    """Defaults < file < environment < `--set` < the option itself."""
    config = read(
        "[stager.http]\ntext = 'file'\n" if "file" in given_layers else None,
        *(["stager.http.text=set"] if "set" in given_layers else []),
        **({"SAMPLE_TEXT": "environment"} if "environment" in given_layers else {}),
    )
    options = {"text": "option"} if "option" in given_layers else {}
    assert config.section("stager.http", Sample, options).text == given_layers[-1]


@given(st.sets(st.sampled_from(LAYERS)))
def test_layers_do_not_mix_between_keys(layers):
    data = {"stager": {"http": {"number": 2}}} if "file" in layers else {}
    config = Config(
        None,
        data,
        {"stager.http.number": "4"} if "set" in layers else {},
        {"SAMPLE_NUMBER": "3"} if "environment" in layers else {},
    )
    made = config.section("stager.http", Sample, {"number": 5} if "option" in layers else {})
    wanted = max((number for number, layer in enumerate(LAYERS, start=2) if layer in layers), default=1)
    assert made == Sample(number=wanted)


def test_an_option_that_was_not_given_hides_nothing(read):
    assert read("[stager.http]\ntext = 'file'\n").section("stager.http", Sample, {"text": None}).text == "file"


def test_an_empty_variable_counts_as_not_set(read):
    assert read("[stager.http]\nnumber = 7\n", SAMPLE_NUMBER="").section("stager.http", Sample).number == 7


def test_the_environment_of_the_process_is_read_where_no_other_is_given(monkeypatch):
    monkeypatch.setenv("SAMPLE_TEXT", "from the process")
    assert Config.read(None).section("stager.http", Sample).text == "from the process"


def test_the_last_set_of_a_key_wins(read):
    config = read(None, "stager.http.number=3", "stager.http.number=4")
    assert config.section("stager.http", Sample).number == 4


def test_a_set_may_have_equals_signs_and_dots_in_its_value(read):
    assert read(None, "stager.http.text=a=b.c=d").section("stager.http", Sample).text == "a=b.c=d"


def test_settings_of_other_plugins_stay_with_them(read):
    config = read("[stager.file]\nwhatever = 1\n", "stager.s3.whatever=2")
    assert config.section("stager.http", Sample) == Sample()
    assert config.names("stager") == {"file", "s3"}
    assert config.names("executor") == set()


# -- types -------------------------------------------------------------------------------------------------------------


def test_every_type_is_read_from_the_file(read, tmp_path):
    made = read(
        "[stager.http]\ntext = 'x'\nnumber = 3\nrate = 2\nflag = true\nfile = '/a/b'\nnames = ['c']\nlevel = 'high'\n"
        "token = 'canary-5d1f7c0ae2'\nlimit = 5\ncolours = ['red']\n"
    ).section("stager.http", Sample)
    assert made == Sample("x", 3, 2.0, True, Path("/a/b"), ("c",), "high", "canary-5d1f7c0ae2", 5, ("red",))
    assert isinstance(made.rate, float)


def test_every_type_is_read_from_text(read):
    made = read(
        None,
        "stager.http.rate=1e3",
        "stager.http.file=sub/x",
        "stager.http.limit=9",
        SAMPLE_NUMBER="12",
        SAMPLE_FLAG="Yes",
        SAMPLE_NAMES="a, b ,,c",
    ).section("stager.http", Sample)
    assert made == Sample(rate=1000.0, file=Path("sub/x"), limit=9, number=12, flag=True, names=("a", "b", "c"))


@pytest.mark.parametrize("text", ["true", "True", "yes", "1", "false", "No", "0"])
def test_flags_have_a_few_spellings(read, text):
    assert read(None, f"stager.http.flag={text}").section("stager.http", Sample).flag is (
        text.lower() in {"true", "yes", "1"}
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("number = true", "stager.http.number: True is not a whole number"),
        ("number = 1.5", "stager.http.number: 1.5 is not a whole number"),
        ("number = '3'", "stager.http.number: '3' is not a whole number"),
        ("number = -1", "stager.http.number: -1 is below 0, the least that makes sense"),
        ("rate = nan", "stager.http.rate: nan is not a finite number"),
        ("rate = inf", "stager.http.rate: inf is not a finite number"),
        ("rate = false", "stager.http.rate: False is not a finite number"),
        ("rate = -0.5", "stager.http.rate: -0.5 is below 0, the least that makes sense"),
        (f"rate = 1{'0' * 400}", "stager.http.rate: a number that large is not a finite number"),
        ("flag = 1", "stager.http.flag: 1 is not true or false"),
        ("flag = 'true'", "stager.http.flag: 'true' is not true or false"),
        ("text = 3", "stager.http.text: 3 is not a text"),
        ("text = ['a']", "stager.http.text: ['a'] is not a text"),
        ("text = 2026-11-23", "stager.http.text: datetime.date(2026, 11, 23) is not a text"),
        ("file = 3", "stager.http.file: 3 is not a path"),
        ("file = ''", "stager.http.file: is empty; give a path"),
        ('file = "a\\u0000b"', "stager.http.file: is no path (it has a NUL character); give a path"),
        ("file = '~nosuchuser000/x'", "stager.http.file: ~nosuchuser000/x: the home directory is not known"),
        ("names = 'a'", "stager.http.names: 'a' is not a list of texts"),
        ("names = [1]", "stager.http.names: [1] is not a list of texts"),
        ("level = 'hihg'", "stager.http.level: 'hihg' is not one of low, middle, high; did you mean 'high'?"),
        ("level = 'x'", "stager.http.level: 'x' is not one of low, middle, high"),
        ("colours = ['red', 'gren']", "'gren' is not one of red, green; did you mean 'green'?"),
        ("limit = 'x'", "stager.http.limit: 'x' is not a whole number"),
        ("nubmer = 3", "stager.http.nubmer: unknown key; did you mean 'number'?"),
        ("zzz = 3", "stager.http.zzz: unknown key; known: colours, file, flag,"),
        ("text.x = 3", "stager.http.text: {'x': 3} is not a text"),
    ],
)
def test_a_wrong_value_in_the_file_is_named_with_file_and_path(problem, tmp_path, line, message):
    text = problem(f"[stager.http]\n{line}\n")
    assert message in text
    assert text.startswith(f"{tmp_path / 'pilot.toml'}: ")


def test_nothing_is_said_to_be_near_where_nothing_is(problem):
    assert "did you mean" not in problem("[stager.http]\nlevel = 'x'\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("number=x", "'x' is not a whole number"),
        ("number=", "'' is not a whole number"),
        ("number=-3", "-3 is below 0"),
        ("rate=nan", "nan is not a finite number"),
        ("rate=-inf", "-inf is not a finite number"),
        ("rate=1e999", "inf is not a finite number"),
        ("flag=maybe", "'maybe' is not true or false"),
        ("file=", "is empty; give a path"),
        ("level=highh", "did you mean 'high'?"),
        ("nubmer=3", "unknown key 'nubmer'; did you mean 'number'?"),
        (f"text={'x' * 200}=", None),
        (f"number={'x' * 200}", "..."),
        (f"number={'9' * 5000}", "... is not a whole number"),
    ],
)
def test_a_wrong_set_is_named_as_it_was_given(problem, read, text, message):
    if message is None:
        assert read(None, f"stager.http.{text}").section("stager.http", Sample).text == text.partition("=")[2]
        return
    found = problem(None, f"stager.http.{text}")
    assert found.startswith(f"--set stager.http.{text.partition('=')[0]}: ")
    assert message in found
    assert len(found) < 250


def test_a_wrong_variable_is_named(problem):
    assert problem(SAMPLE_NUMBER="many") == "environment variable SAMPLE_NUMBER: 'many' is not a whole number"


def test_a_wrong_option_is_named(problem):
    assert problem(options={"number": -2}) == "--number: -2 is below 0, the least that makes sense"


@pytest.mark.parametrize("layer", ["file", "environment", "set"])
def test_a_secret_is_in_no_message(problem, layer):
    message = {
        "file": lambda: problem("[stager.http]\ntoken = 'canary-wrong'\n"),
        "environment": lambda: problem(SAMPLE_TOKEN="canary-wrong"),
        "set": lambda: problem(None, "stager.http.token=canary-wrong"),
    }[layer]()
    assert "canary" not in message.replace("canary-5d1f7c0ae2", "")
    assert "the value given is not one of" in message


def test_a_secret_is_in_no_repr(read):
    config = read("[stager.http]\ntoken = 'canary-5d1f7c0ae2'\n", "stager.http.text=canary-5d1f", SOME="canary-5d1f")
    assert "canary" not in repr(config)
    assert "canary" not in repr(config.section("stager.http", Sample, {"text": "x"}))


def test_what_is_needed_and_not_there_is_named(problem, tmp_path):
    assert problem(cls=Needs) == "stager.http.place: is needed (where it is)"
    assert problem("", cls=Needs) == f"{tmp_path / 'pilot.toml'}: stager.http.place: is needed (where it is)"


@given(st.text(max_size=30))
@example("1_000")
@example("٣")
@example(" 5 ")
def test_any_text_is_a_number_or_an_error_in_one_line(text):
    config = Config(None, {}, {"stager.http.number": text}, {})
    made, message = made_or_refused(lambda: config.section("stager.http", Sample))
    if made is None:
        assert message.startswith("--set stager.http.number: ")
        assert "\n" not in message
    else:
        assert made.number == int(text) >= 0


toml_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([item.name for item in fields(Sample)]), toml_values)
def test_any_value_is_taken_in_its_type_or_refused(name, value):
    """Whatever the file holds: the settings have the declared types, or there is a `ConfigError`."""
    config = Config(None, {"stager": {"http": {name: value}}})
    made, message = made_or_refused(lambda: config.section("stager.http", Sample))
    if made is None:
        assert f"stager.http.{name}: " in message
        return
    types = {"text": str, "number": int, "rate": float, "flag": bool, "file": Path, "names": tuple, "level": str}
    types |= {"token": str, "limit": int, "colours": tuple}
    assert type(getattr(made, name)) in {types[name], type(Path())}


# -- paths -------------------------------------------------------------------------------------------------------------


def test_a_relative_path_in_the_file_is_relative_to_the_file(read, tmp_path):
    made = read("[stager.http]\nfile = 'certs/ca.pem'\n").section("stager.http", Sample)
    assert made.file == tmp_path / "certs/ca.pem"


def test_a_relative_path_from_elsewhere_is_relative_to_the_working_directory(read):
    for config in (read("", "stager.http.file=a/b"), read("", SAMPLE_FILE="a/b")):
        assert config.section("stager.http", Sample).file == Path("a/b")


def test_a_home_directory_is_written_out(read):
    made = read("[stager.http]\nfile = '~/x'\n").section("stager.http", Sample)
    assert made.file == Path.home() / "x"


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pilots]\n", "pilots: unknown key; did you mean 'pilot'?"),
        ("[stagers.http]\n", "stagers: unknown key; did you mean 'stager'?"),
        ("jobs = 3\n", "jobs: unknown key"),
        ("pilot = 3\n", "pilot: must be a table ([pilot])"),
        ("stager = 3\n", "stager: must be a table ([stager])"),
        ("[stager]\nhttp = 3\n", "stager.http: must be a table ([stager.NAME])"),
        ("[stager]\ntimeout = 3\n", "stager.timeout: must be a table ([stager.NAME])"),
        ("[pilot\n", "not valid TOML: Expected ']'"),
        ("a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value"),
        (f"a = {'9' * 5000}\n", "not valid TOML: "),
        (f"a = {'[' * 3000}\n", "not valid TOML: "),
    ],
)
def test_a_wrong_file_is_one_line_with_its_name(read, tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path / 'pilot.toml'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_points_to_the_option(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: the configuration file does not exist; check --config"):
        Config.read(tmp_path / "none.toml")


def test_a_file_that_is_a_directory_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the configuration file: Is a directory"):
        Config.read(tmp_path)


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    file = tmp_path / "pilot.toml"
    file.write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 5\)"):
        Config.read(file)


def test_an_unreadable_file_is_an_error(tmp_path, as_ordinary_user):
    file = tmp_path / "pilot.toml"
    file.write_text("")
    file.chmod(0)
    code = (
        "import sys, pathlib\n"
        "from pilot_core.settings import Config\n"
        "from pilot_core import ConfigError\n"
        "try: Config.read(pathlib.Path(sys.argv[1]))\n"
        "except ConfigError as error: print(error)\n"
    )
    done = as_ordinary_user(code, file)
    assert done.stdout == f"{file}: cannot read the configuration file: Permission denied\n"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    with open(os.memfd_create("pilot.toml"), "w+b") as stream:
        stream.write(text.encode("utf-8", "surrogatepass"))
        stream.flush()
        file = Path(f"/proc/self/fd/{stream.fileno()}")
        made, message = made_or_refused(lambda: Config.read(file))
        assert made is not None or str(file) in message


# -- --set -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--set : write it as a.b.c=value"),
        ("stager.http.timeout", "--set stager.http.timeout: write it as a.b.c=value"),
        ("=5", "--set : write it as a.b.c=value"),
        ("stager..timeout=5", "--set stager..timeout: write it as a.b.c=value"),
        ("stagr.http.timeout=5", "--set stagr.http.timeout: unknown key 'stagr'; did you mean 'stager'?"),
        ("queues.Q.shell=true", "--set queues.Q.shell: unknown key 'queues'"),
        ("stager.timeout=5", "--set stager.timeout: write it as stager.NAME.KEY=value"),
        ("stager.http.a.b=5", "--set stager.http.a.b: write it as stager.NAME.KEY=value"),
        ("pilot=5", "--set pilot: write it as pilot.KEY=value"),
        ("pilot.a.b=5", "--set pilot.a.b: write it as pilot.KEY=value"),
    ],
)
def test_a_set_that_would_be_passed_over_is_an_error(text, message):
    with pytest.raises(ConfigError) as caught:
        Config.read(None, [text], {})
    assert str(caught.value).startswith(message)


# -- options -----------------------------------------------------------------------------------------------------------


def parser(cls=Sample, **more):
    made = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    add_options(made, cls, **more)
    return made


def test_every_field_has_an_option_with_help_choices_variable_and_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = parser().format_help()
    for expected in (
        "--text TEXT",
        "a text [environment: SAMPLE_TEXT] [default: t]",
        "--number N",
        "--rate N",
        "[default: 0.5]",
        "--flag, --no-flag",
        "--file F",
        "--names A,B",
        "some names [environment: SAMPLE_NAMES] [default: a,b]",
        "a level: low, middle, high [default: low]",
    ):
        assert expected in text


def test_options_that_were_not_given_are_not_there():
    assert given_options(parser().parse_args([]), Sample) == {}


def test_options_are_parsed_into_their_types():
    found = given_options(
        parser().parse_args(["--number", "3", "--rate", "2", "--flag", "--file", "x", "--names", "p,q"]), Sample
    )
    assert found == {"number": 3, "rate": 2.0, "flag": True, "file": Path("x"), "names": ("p", "q")}


def test_a_flag_of_the_file_can_be_switched_off(read):
    config = read("[stager.http]\nflag = true\n")
    options = given_options(parser().parse_args(["--no-flag"]), Sample)
    assert config.section("stager.http", Sample, options).flag is False


def test_a_wrong_option_names_itself():
    with pytest.raises(ConfigError, match="--number: 'x' is not a whole number"):
        given_options(parser().parse_args(["--number", "x"]), Sample)
    with pytest.raises(ConfigError, match="--number: -1 is below 0"):
        given_options(parser().parse_args(["--number", "-1"]), Sample)


def test_some_fields_only_can_be_options():
    made = parser(only=["number"])
    assert "--number" in made.format_help()
    assert "--text" not in made.format_help()
    assert given_options(made.parse_args(["--number", "2"]), Sample) == {"number": 2}


def test_a_percent_sign_in_a_help_text_is_no_placeholder():
    @dataclass(frozen=True)
    class Odd:
        share: int = setting(5, help="share in % (s)")

    assert "share in % (s)" in parser(Odd).format_help()


# -- settings classes of plugins ---------------------------------------------------------------------------------------


def test_a_type_that_is_imported_for_checking_only_is_the_plugins_fault():
    @dataclass(frozen=True)
    class Bad:
        amount: Decimal = setting(0, help="an amount")

    with pytest.raises(PluginError, match="Bad: the type 'Decimal' is not known at run time"):
        Config().section("stager.http", Bad)


def test_a_type_that_no_setting_can_have_is_the_plugins_fault():
    @dataclass(frozen=True)
    class Bad:
        amounts: dict[str, int] = setting((), help="amounts")

    with pytest.raises(PluginError, match=r"Bad: amounts is of type dict\[str, int\], which a setting cannot have"):
        Config().section("stager.http", Bad)


def test_no_settings_take_none(problem):
    assert "stager.http.x: unknown key" in problem("[stager.http]\nx = 1\n", cls=NoSettings)


def test_plain_dataclasses_do_too(read):
    @dataclass(frozen=True)
    class Plain:
        size: int = 3

    assert read("[stager.http]\nsize = 4\n").section("stager.http", Plain).size == 4


def test_the_pilots_own_settings_are_in_order():
    assert Config().section("pilot", PilotSettings) == PilotSettings()


# -- did you mean ------------------------------------------------------------------------------------------------------


def test_a_near_word_is_offered_and_else_all_words():
    assert did_you_mean("stagr", ["stager", "executor"]) == "; did you mean 'stager'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known: a, b"
    assert did_you_mean("zzz", []) == ""
