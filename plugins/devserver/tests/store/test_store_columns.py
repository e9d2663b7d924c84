"""Which values the database takes, which it cuts, and which lose the update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_devserver.store_columns import COLUMNS, CUT, Text, stored

from pilot_core.api.server import StoreUnavailable

TEXTS = {name: column.size for name, column in COLUMNS.items() if isinstance(column, Text)}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_text_of_the_columns_size_fits_and_longer_text_does_not(name):
    size = TEXTS[name]
    assert stored({name: "é" * size}) == {name: "é" * size}
    if name in CUT:
        assert stored({name: "é" * 1000}) == {name: "é" * CUT[name]}
    else:
        with pytest.raises(StoreUnavailable, match=name):
            stored({name: "é" * (size + 1)})


@pytest.mark.parametrize("name", sorted(TEXTS))
@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
def test_text_that_postgresql_cannot_hold_is_refused(name, text):
    with pytest.raises(StoreUnavailable):
        stored({name: text})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("n_input_files", 2**31 - 1, 2**31),
        ("pilot_error_code", -(2**31), -(2**31) - 1),
        ("exe_error_code", 0, 2**31),
        ("core_count", 1, 10**12),
        ("n_events", 10**12, 2**63),
        ("max_rss", 2**63 - 1, 10**20),
        ("tot_rchar", 1e10 - 1, 1e30),
        ("rate_wbytes", -5.5, float("inf")),
        ("cpu_consumption_time", 10**20 - 1, 10**20),
        ("cpu_conversion_factor", 99999.9999, 100000.0),
        ("mean_core_count", 999999.0, 1e6),
        ("n_events", "12", "12.5"),
        ("n_events", " -7 ", ""),
        ("cpu_consumption_time", "1.5", "abc"),
        ("cpu_conversion_factor", "1e2", "nan"),
        ("n_events", 0, 10**4000),
    ],
)
def test_numbers_fit_or_lose_the_update(name, good, bad):
    assert name in stored({name: good})
    with pytest.raises(StoreUnavailable, match=name):
        stored({name: bad})


def test_a_leak_in_the_metrics_is_a_number_of_its_own():
    assert stored({"job_metrics": "coreCount=1 leak=12.5"})["memory_leak"] == 12
    with pytest.raises(StoreUnavailable):
        stored({"job_metrics": "leak=" + "9" * 30})


def test_what_is_no_column_and_what_is_nothing_is_left_out():
    assert stored({"job_output_report": "{}", "site_name": "X", "node": None}) == {}


@given(st.dictionaries(st.sampled_from(sorted(COLUMNS)), st.text() | st.integers() | st.floats() | st.booleans()))
def test_any_value_is_kept_or_refused(values):
    try:
        kept = stored(values)
    except StoreUnavailable:
        return
    assert set(kept) <= set(COLUMNS)
    assert all(len(value) <= TEXTS[name] for name, value in kept.items() if name in TEXTS)
    assert all(isinstance(value, (int, float)) for name, value in kept.items() if name not in TEXTS)
