"""The pages in a real Chromium, with a real pilot beside it: live without reload, buttons that work, no errors.

Every test ends with a look at what the browser has asked for (nothing but this server) and complained of (nothing).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pilot_devserver.devserver import DevServer
from pilot_devserver.store_jobs import FileSpec, JobSpec

pytestmark = pytest.mark.needs("bin:chromium", "bin:chromedriver", "module:selenium")

PATIENCE = 30
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
    *("--disable-default-apps", "--disable-domain-reliability", "--metrics-recording-only", "--window-size=1400,1100"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

UNTIL = """
const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);
const holds = () => { CONDITION };
const look = () => { if (holds()) { observer.disconnect(); done(true); } };
addEventListener("pagehide", () => done(false));
const observer = new MutationObserver(look);
observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
look();
"""


def start_chromium(folder):
    """Start a Chromium with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # with a path given, nothing looks for a driver elsewhere
    service = Service(shutil.which("chromedriver"), env={**os.environ, "HOME": str(folder)})
    driver = webdriver.Chrome(options, service)
    # not as long as tests wait: the driver may not notice that a script's page has gone
    driver.set_script_timeout(PATIENCE / 10)
    # for elements of a page that is just coming
    driver.implicitly_wait(PATIENCE)
    return driver


class Browser:
    """The browser at one server's pages; `until` is woken by changes of the page, it does not poll."""

    def __init__(self, driver, server):
        self.driver = driver
        self.base = server.web_url.partition("/?")[0]
        for kind in ("browser", "performance"):
            driver.get_log(kind)
        driver.get(server.web_url)

    def open(self, path):
        self.driver.get(self.base + path)

    def run(self, script, *given):
        return self.driver.execute_script(script, *given)

    def until(self, condition, *given):
        """Wait until a condition in JavaScript holds of the page as it is, without loading it again."""
        from selenium.common.exceptions import TimeoutException, WebDriverException

        script, end = UNTIL.replace("CONDITION", f"return {condition};"), time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if self.driver.execute_async_script(script, *given):
                    return
            except TimeoutException:
                continue
            except WebDriverException as error:
                # a button was pressed a moment ago, and its page comes just now
                if not any(word in str(error) for word in ("unload", "navigation", "context", "aborted")):
                    raise
        raise AssertionError(f"never: {condition} {given}\n{self.driver.current_url}\n{self.text('body')}")

    def until_text(self, selector, text):
        """Wait until an element is there and has a text in it."""
        self.until(
            "[...document.querySelectorAll(given[0])].some((one) => one.textContent.includes(given[1]))", selector, text
        )

    def text(self, selector):
        return self.find(selector).text

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def press(self, text):
        """Press the button with this text, as somebody would: it must be in sight and not covered."""
        button = self.driver.find_element("xpath", f"//main//button[normalize-space()='{text}']")
        self.run("arguments[0].scrollIntoView({ block: 'center' })", button)
        button.click()

    def mark(self):
        """Leave a mark that does not survive a reload."""
        self.run("window.stillHere = true")

    @property
    def marked(self):
        return bool(self.run("return window.stillHere === true"))

    def check(self):
        """See that nothing was complained of, and that everything came from this server."""
        complaints = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        assert complaints == []
        asked = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.add(message["params"]["request"]["url"])
        strange = {url for url in asked if not url.startswith((f"{self.base}/", "about:"))}
        assert asked
        assert strange == set()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One Chromium for all tests of this module: it takes seconds to start."""
    driver = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, server):
    chromium.get("about:blank")
    try:
        made = Browser(chromium, server)
        yield made
        made.check()
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        chromium.set_window_size(1400, 1100)
        chromium.delete_all_cookies()
        # ends the stream of changes
        chromium.get("about:blank")


@pytest.fixture
def pilot_process(server, tmp_path):
    """Start real pilots for the first queue, which say every 0.2 s that their job runs."""
    started = []

    def start(*options):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        text = server.state.config_file.read_text().replace('[queues."Q1"]', '[queues."Q1"]\nheartbeat_seconds = 0.2')
        config = tmp_path / "pilot.toml"
        config.write_text(text.replace("[pilot]", f"[pilot]\nwork_dir = {json.dumps(str(work))}"))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "pilot_core", "run", "--config", str(config), "--jobs", "1", *options]
        log = (tmp_path / f"pilot-{len(started)}.log").open("wb")
        with log:
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=log, stdout=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(PATIENCE)


def ended(process, tmp_path):
    code = process.wait(PATIENCE)
    return code, "".join(path.read_text() for path in sorted(tmp_path.glob("pilot-*.log")))


def submit(server, script="true"):
    log = FileSpec(lfn="log.tgz", kind="log", endpoint="Q1_DATADISK", destination="local")
    spec = JobSpec(
        queue="Q1", transformation="/bin/sh", parameters=f"-c '{script}'", name="of the browser", files=(log,)
    )
    return server.store.submit([spec])[0]


def screenshots(browser, folder, name):
    """Take pictures, light and dark, for people; they stay out of the checkout."""
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        picture = folder / f"{name}-{scheme}.png"
        assert browser.driver.save_screenshot(str(picture))
        assert picture.stat().st_size > 10_000


def test_a_job_from_the_form_appears_and_its_states_change_before_ones_eyes(browser, pilot_process, server, tmp_path):
    browser.until_text("#live", "live")
    assert browser.driver.title == "Jobs · PanDA development server"
    browser.mark()
    other = submit(server)
    browser.until_text(f"#job-{other}", "activated")
    assert browser.marked
    server.store.kill(other)
    browser.until_text(f"#job-{other}", "cancelled")
    browser.open("/submit")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    for name, text in (("transformation", "cat"), ("parameters", str(gate)), ("name", "by hand")):
        browser.find(f"#submit-{name}").send_keys(text)
    browser.press("Submit")
    browser.until_text("#notice", "Job 2 is submitted")
    assert "notice=" not in browser.driver.current_url
    browser.until_text("#live", "live")
    browser.mark()
    pilot = pilot_process()
    browser.until_text("h1 .pill", "running")
    screenshots(browser, tmp_path, "running")
    gate.write_text("the end")
    browser.until_text("h1 .pill", "finished")
    assert browser.marked
    assert ended(pilot, tmp_path)[0] == 0
    assert browser.run("return document.querySelectorAll('svg.timeline rect.finished').length") == 1
    assert browser.run("return document.querySelector('svg.timeline circle').getBoundingClientRect().width > 3")
    told = browser.run("return document.querySelector('#events').textContent")
    assert all(f"the job is {state}" in told for state in ("activated", "sent", "running", "finished"))
    screenshots(browser, tmp_path, "finished")


def test_an_exchange_is_shown_decoded_with_the_wrong_fields_marked(browser, pilot, tmp_path):
    browser.open("/exchanges")
    browser.until_text("#live", "live")
    browser.mark()
    report = json.dumps({"out.txt": {"fsize": 3, "adler32": "00000001"}})
    values = {"jobid": 1, "job_status": "running", "attempt_nr": "2", "node": "n" * 140, "job_output_report": report}
    pilot.post("/api/v1/pilot/update_job", values)
    browser.until_text("#exchange-1", "4 problems")
    assert browser.marked
    browser.find("#exchange-1 a").click()
    browser.until_text("h1", "pilot/update_job")
    request, answer = browser.driver.find_elements("css selector", ".side")
    assert request.location["y"] == answer.location["y"]
    assert request.location["x"] < answer.location["x"]
    assert "missing a required argument: 'job_id'" in answer.text
    assert "00000001" in request.text
    wrong = {
        row.find_element("css selector", "th").text: row.text
        for row in request.find_elements("css selector", "tr.wrong")
    }
    assert set(wrong) == {"job_id", "jobid", "attempt_nr", "node"}
    assert "wrong type: must be int, not str" in wrong["attempt_nr"]
    colours = {
        browser.run(
            "return getComputedStyle(document.getElementById(arguments[0]).firstElementChild).backgroundColor",
            f"field-{name}",
        )
        for name in ("attempt_nr", "node")
    }
    assert len(colours) == 2, "what is refused and what is only cut look alike"
    browser.find(".problems a[href='#field-attempt_nr']").click()
    assert browser.run("return document.querySelector(':target').id") == "field-attempt_nr"
    screenshots(browser, tmp_path, "exchange")


def test_the_button_tobekilled_ends_a_payload(browser, pilot_process, server, tmp_path):
    job = submit(server, "exec sleep 600")
    pilot = pilot_process()
    browser.open(f"/jobs/{job}")
    browser.until_text("h1 .pill", "running")
    browser.press("tobekilled")
    browser.until_text("#notice", "will be told 'tobekilled'")
    browser.until_text("h1 .pill", "cancelled")
    code, log = ended(pilot, tmp_path)
    assert "tobekilled" in log or "killed" in log, log
    assert code == 0, log
    assert browser.run("return document.querySelectorAll('svg.timeline .mark.command').length") >= 1
    assert not browser.find("main form button").is_enabled()
    screenshots(browser, tmp_path, "killed")


def test_a_button_for_a_fault_makes_the_next_update_fail(browser, pilot_process, server, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = submit(server, f"cat {gate}")
    pilot = pilot_process()
    browser.open(f"/jobs/{job}")
    browser.until_text("h1 .pill", "running")
    browser.press("500 once")
    browser.until_text("#notice", "is in force")
    browser.until_text(".badge.fault", "status")
    browser.until("document.querySelectorAll('svg.timeline .mark.fault').length === 1")
    [struck] = server.faults.rules()
    assert (struck.fired, struck.rule.job) == (1, job)
    gate.write_text("the end")
    browser.until_text("h1 .pill", "finished")
    assert ended(pilot, tmp_path)[0] == 0
    browser.open("/faults")
    assert "1 of 1" in browser.text("#fault-1")
    browser.press("Remove")
    browser.until_text("#notice", "Fault 1 is removed")
    assert server.faults.rules() == []


def test_the_form_of_faults_shows_the_options_of_the_chosen_one_only(browser, server, tmp_path):
    browser.open("/faults")
    browser.until_text("#live", "live")
    shown = (
        "return [...document.querySelectorAll('fieldset[data-kind]')]"
        ".filter((one) => one.offsetHeight).map((one) => one.dataset.kind)"
    )
    assert browser.run(shown) == []
    browser.find("#fault-kind option[value='delay']").click()
    assert browser.run(shown) == ["delay"]
    browser.find("#fault-option-delay-seconds").send_keys("0.25")
    # what is written stays while the page changes
    server.fault("status", endpoint="acquire_jobs")
    browser.until_text("#fault-1", "acquire_jobs")
    assert browser.run(shown) == ["delay"]
    assert browser.find("#fault-option-delay-seconds").get_attribute("value") == "0.25"
    screenshots(browser, tmp_path, "faults")
    browser.press("Add")
    browser.until_text("#fault-2", "seconds = 0.25")
    assert server.faults.rules()[1].rule.to_json() == {"fault": "delay", "seconds": 0.25}


def test_pages_can_be_used_by_keyboard(browser, server):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    submit(server)
    browser.open("/")
    browser.until_text("#job-1", "activated")
    ActionChains(browser.driver).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert browser.run("return document.activeElement.id") == "main"
    for _ in range(20):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        if browser.run("return document.activeElement.getAttribute('href')") == "/jobs/1":
            break
    # the focus stays where it is while the row beside it changes
    server.store.set_debug(1, True)
    browser.until_text("#job-1", "debug")
    assert browser.run("return document.activeElement.getAttribute('href')") == "/jobs/1"
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none"
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    browser.until_text("h1", "Job 1")


def test_without_scripts_the_pages_work_by_loading_them_again(browser, server):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open("/")
    assert "There is no job yet" in browser.text("main")
    assert "reload to update" in browser.text("#live")
    submit(server)
    browser.driver.refresh()
    browser.find("#job-1 a").click()
    browser.press("softkill")
    assert "will be told 'softkill'" in browser.text("#notice")
    assert server.store.get(1).command == "softkill"
    browser.open("/faults")
    assert browser.find("fieldset[data-kind='delay']").is_displayed()


def test_hostile_names_run_nothing(browser, server):
    name = "</title><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
    server.store.submit([JobSpec(queue="Q1", transformation=name, name=name, parameters=name)])
    for path in ("/", "/jobs/1"):
        browser.open(path)
        browser.until_text("#live", "live")
        assert browser.run("return window.hit === undefined")
        assert name in browser.text("main")


def test_when_the_server_is_gone_the_page_says_so(chromium, state_dir):
    with DevServer(state_dir, web_port=0) as server:
        browser = Browser(chromium, server)
        browser.until_text("#live", "live")
    browser.until_text("#live", "waiting for the server")
    chromium.get("about:blank")


def test_narrow_screens_scroll_tables_not_the_page(browser, server, tmp_path):
    submit(server)
    browser.driver.set_window_size(500, 900)
    for path in ("/", "/jobs/1", "/exchanges", "/faults", "/submit"):
        browser.open(path)
        wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path} is {wide} pixels too wide"
    browser.open("/jobs/1")
    screenshots(browser, tmp_path, "narrow")


def test_the_address_of_the_pages_leaves_no_key_behind(browser, server):
    assert urlsplit(browser.driver.current_url).query == ""
    assert Path(browser.driver.current_url).name != server.web_url
